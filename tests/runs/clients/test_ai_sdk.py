"""The AI SDK's clients against a chat that is a run: each shows all of it once, however its connection is cut, and its end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.runs.endings import RunEnding
from tests.npm import Node
from tests.site.routes.ai_sdk import REASONING, TEXT, WAY, parts
from tests.timing import LONG

from .cutting import Cut, Plan, cuts
from .program import Asked, Outcome, Program, running
from .site import Site

CLIENTS = ("ai7", "ai6", "workflow", "assistant")
HEALS = {"ai7": ("reload", "resume"), "ai6": ("reload",), "workflow": (None,), "assistant": ("reload", "resume")}
"""What is done after a cut: ``reload`` the page, ``resume`` in the same one, or nothing, as the client heals it itself."""
PATH = "ai/kept"
SAID = [*parts(""), "[DONE]"]
FINISH = len(SAID) - 1
"""How many events there are up to ``finish``."""


def joined(deltas: list[str]) -> str:
    return "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16")


HALF = [("reasoning", joined(REASONING)), ("text", joined(TEXT[: WAY - 8]))]
WHOLE = [("reasoning", joined(REASONING)), ("text", joined(TEXT)), ("tool", {"place": "日本"}, {"sky": "☀️"}), ("text", "Schön.")]


def shown(seen: Outcome) -> list[tuple[Any, ...]]:
    """What a client shows of the one answer."""
    (message,) = seen["messages"]
    found: list[tuple[Any, ...]] = []
    for part in message["parts"]:
        if part["type"] in ("text", "reasoning"):
            found.append((part["type"], part["text"]))
        elif part["type"] == "tool-weather":
            found.append(("tool", part.get("input"), part.get("output")))
    return found


def must_be_whole(seen: Outcome) -> None:
    assert shown(seen) == WHOLE
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert {part.get("state", "done") for part in seen["messages"][0]["parts"]} == {"done", "output-available"}


class Chat:
    """A chat that goes on."""

    def __init__(self, asked: Asked, plan: Plan) -> None:
        self.begun, self._asked, self.plan = asked.begun, asked, plan

    def over(self) -> Outcome:
        """Wait until the client has ended; return what it shows, and what it has asked."""
        seen = self._asked.outcome()
        requests = [f"{one.method} {one.status}" for one in self.plan.asked]
        return seen | {"requests": requests, "paths": [one.path for one in self.plan.asked]}


class Chats:
    """Chats with all of the clients, through the proxy."""

    def __init__(self, site: Site, program: Program) -> None:
        self._site, self._program = site, program

    def ask(self, client: str, path: str, *, chat: str = "", plan: dict[str, Any] | None = None, **about: Any) -> Chat:
        """Begin a chat; see the program for what may be said about it."""
        name = secrets.token_hex(8)
        planned = self._site.proxy.plan(name, **(plan or {}))
        url = f"{self._site.proxy.url}/{path}"
        return Chat(self._program.ask(client, url, plan=name, chat=chat or name, **about), planned)


@pytest.fixture
def key() -> str:
    """The beginning of names of a test's own chats."""
    return secrets.token_hex(6)


@pytest.fixture(scope="module")
def chats(site: Site, node: Node) -> Iterator[Chats]:
    with running(node, "ai_sdk.mjs") as program:
        yield Chats(site, program)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_is_shown_whole_and_a_chat_without_one_is_ready(chats: Chats, key: str, client: str) -> None:
    paths = [f"{PATH}/whole", *(["ai/once/whole/"] if client != "workflow" else [])]  # that one would ask for …//id/stream
    for path in paths:
        chat = chats.ask(client, path, chat=f"{key}-over")
        must_be_whole(seen := chat.over())
        assert seen["requests"] == ["POST 200"]
        assert chat.plan.passed.count(b"\n\n") == len(SAID)
        assert [how.get("finishReason") for how in seen["finished"]] == ["stop"]
    if client.startswith("ai"):
        for path, chat_id in ((paths[0], "none"), (paths[1], f"{key}-over")):
            seen = chats.ask(client, path, chat=chat_id, resumes=True).over()
            assert (seen["messages"], seen["status"], seen["error"], seen["requests"]) == ([], "ready", None, ["GET 204"])


@pytest.mark.parametrize("client", CLIENTS)
def test_wherever_the_connection_is_cut_the_answer_is_shown_whole_and_once(chats: Chats, client: str) -> None:
    heals = HEALS[client]
    asked = [
        (cut, heal, chats.ask(client, f"{PATH}/slow", plan={"cut": cut}, heal=heal))
        for cut in cuts(len(SAID), 1 if client in ("ai7", "workflow") else 0)
        for heal in (heals if LONG else [heals[cut.events % len(heals)]])
    ]
    for cut, heal, chat in asked:
        seen, passed = chat.over(), chat.plan.passed
        had_finish = cut.events >= FINISH or (client == "assistant" and b'"type":"finish"' in passed)  # to that it is the end
        assert passed.count(b"\n\n") == cut.events, (cut, heal)
        assert shown(seen) == WHOLE, (cut, heal)
        if had_finish and client == "assistant":  # it forgets the run at once: its site has kept the answer, or nobody has
            assert seen["stored"] is None
        else:
            must_be_whole(seen)
        resumed = ["GET 200"] if not had_finish or client.startswith("ai") else []
        assert seen["requests"] == ["POST 200", *resumed], (cut, heal)
        if client != "workflow":
            assert (seen["first"]["status"], seen["first"]["error"]) == ("error", "TypeError: terminated"), (cut, heal)
        elif resumed:
            assert seen["paths"][1].endswith(f"/{seen['run']}/stream?startIndex={min(cut.events, FINISH)}")


@pytest.mark.parametrize("clean", [True, False], ids=["ended", "broken"])
def test_every_connection_may_be_cut_and_the_client_that_counts_parts_loses_none(chats: Chats, clean: bool) -> None:
    sizes = range(1, len(SAID)) if LONG else (1, 2, 7, 8, 9, 12, len(SAID) - 1)
    asked = [
        (size, chats.ask("workflow", f"{PATH}/slow", plan={"cut": Cut(size, 2), "every": True, "clean": clean})) for size in sizes
    ]
    for size, chat in asked:
        seen = chat.over()
        if clean or 4 * size > FINISH:
            must_be_whole(seen)
            assert len(seen["requests"]) == -(-FINISH // size)
        else:  # three of its own requests in a row that break are too many for it
            assert seen["requests"] == ["POST 200", *["GET 200"] * 3]
            assert seen["error"].startswith("Error: Failed to reconnect after 3 consecutive errors.")
        for mine, whole in zip(shown(seen), WHOLE, strict=False):
            assert mine == whole or str(whole[1]).startswith(str(mine[1])) or mine[0] == "tool"


def test_a_page_that_asks_for_the_newest_parts_gets_those_that_are_whole_among_them(chats: Chats) -> None:
    run = chats.ask("workflow", f"{PATH}/whole").over()["run"]
    starts = [at for at, part in enumerate(SAID) if part != "[DONE]" and str(part["type"]) in _BEGINS]
    asked = [
        (newest, cut, chats.ask("workflow", f"{PATH}/whole", plan={"cut": cut}, resumes=True, run=run, startIndex=-newest))
        for newest in (range(2, len(SAID) + 4) if LONG else (2, 6, 9, 10, 20, len(SAID) - 1, len(SAID), len(SAID) + 3))
        for cut in (None, Cut(min(newest, 3) - 1, 2))
    ]
    for newest, cut, chat in asked:
        seen = chat.over()
        first = max(len(SAID) - newest, 0)
        expected = [part for at, part in zip(starts, WHOLE, strict=True) if at >= first]
        assert (shown(seen) if seen["messages"] else []) == expected, (newest, cut)
        assert (seen["status"], seen["error"]) == ("ready", None)
        path = f"/{PATH}/whole/{run}/stream?startIndex="
        resumed = [f"{path}{first + cut.events}"] if cut and first + cut.events < FINISH else []
        assert seen["paths"] == [f"{path}-{newest}", *resumed]


_BEGINS = {"text-start", "reasoning-start", "tool-input-available"}
"""Without the first two its text is passed over; what has a whole input is shown without its start."""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_run_that_fails_is_the_clients_error_now_and_after_a_reload(chats: Chats, key: str, client: str) -> None:
    seen = chats.ask(client, f"{PATH}/failing", chat=key).over()
    again = chats.ask(client, f"{PATH}/failing", chat=key, run=seen["run"], resumes=True).over()
    for one in (seen, again):
        assert shown(one) == HALF
        assert (one["status"], one["error"]) == ("error", f"Error: {SENTENCES[RunEnding.FAILED]}")
        assert {part.get("state", "done") for part in one["messages"][0]["parts"]} == {"done"}
        assert len(one["requests"]) == 1
        assert one["finished"] == [{"isAbort": False, "isDisconnect": False, "isError": True}]


@pytest.mark.parametrize("script", ["waiting", "calling"])
def test_a_run_that_is_stopped_is_ready_with_what_there_is_and_nothing_is_sent_again(
    site: Site, chats: Chats, script: str
) -> None:
    asked = [chats.ask(client, f"{PATH}/{script}", wait="any") for client in CLIENTS]
    for run in [chat.begun() for chat in asked]:
        assert site.server.get(f"{PATH}/{script}/{run}/stop", method="POST").status in (200, 202)
    for client, chat in zip(CLIENTS, asked, strict=True):
        seen = chat.over()
        assert seen["requests"] == ["POST 200"], client
        assert (seen["status"], seen["error"]) == ("ready", None)
        assert [how["finishReason"] for how in seen["finished"]] == ["other"]
        if script == "waiting":
            assert shown(seen) == HALF
        else:
            tools = [part for part in seen["messages"][0]["parts"] if part["type"] == "tool-weather"]
            assert [(part["state"], part.get("errorText")) for part in tools] == [
                ("output-available", None),
                ("output-error", SENTENCES[RunEnding.STOPPED]),
            ]


def readers(site: Site, chats: Chats, key: str, path: str = f"{PATH}/waiting") -> list[tuple[str, Chat]]:
    """Each client with a run of its own in a process that will end, and a second tab of each at another one."""
    first = {"first": site.mortal().url}
    own = [(client, chats.ask(client, path, chat=f"{key}-{client}", plan=dict(first), wait="text")) for client in CLIENTS]
    runs = [chat.begun() for _, chat in own]
    tabs = [
        (client, chats.ask(client, path, chat=f"{key}-{client}", run=run, wait="text", resumes=True))
        for client, run in zip(CLIENTS, runs, strict=True)
    ]
    for _, chat in tabs:
        chat.begun()
    return [*own, *tabs]


def test_a_run_whose_server_is_told_to_end_is_interrupted(site: Site, chats: Chats, key: str) -> None:
    asked = readers(site, chats, key)
    site.end_mortal("interrupted")
    for client, chat in asked:
        seen = chat.over()
        assert (seen["status"], seen["error"]) == ("error", f"Error: {SENTENCES[RunEnding.INTERRUPTED]}"), client
        assert shown(seen) == HALF
        assert len(seen["requests"]) == 1


def test_a_run_whose_process_is_killed_is_lost_for_whoever_reads_on(site: Site, chats: Chats, key: str) -> None:
    asked = readers(site, chats, key, "ai/short/waiting")
    site.end_mortal("lost")
    for number, (client, chat) in enumerate(asked):
        seen = chat.over()
        assert shown(seen) == HALF
        if number < len(CLIENTS) and client != "workflow":  # its own connection broke; a reload shows the rest
            assert seen["error"] == "TypeError: terminated"
        else:
            assert (seen["status"], seen["error"]) == ("error", f"Error: {SENTENCES[RunEnding.LOST]}"), client
            assert len(seen["requests"]) == 1 + (number < len(CLIENTS))


def test_a_second_question_meanwhile_is_refused_and_leads_to_the_answer_that_goes_on(site: Site, chats: Chats, key: str) -> None:
    first = chats.ask("ai7", f"{PATH}/waiting", chat=key, wait="text")
    run = first.begun()
    second = chats.ask("ai7", f"{PATH}/waiting", chat=key, heal="resume", wait="text")
    second.begun()
    site.server.open_gate(key)
    for chat in (first, second):
        must_be_whole(seen := chat.over())
        assert seen["run"] == run
    assert seen["requests"] == ["POST 409", "GET 200"]
    assert "another run goes on here" in seen["first"]["error"]
