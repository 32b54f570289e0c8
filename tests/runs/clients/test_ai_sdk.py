"""The AI SDK's clients against a chat that is a run: each shows all of it once, however its connection is cut, and its end."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.runs.endings import RunEnding
from tests.live.servers import STOP_SECONDS, Server
from tests.npm import Node
from tests.site.routes.ai_sdk import REASONING, TEXT, WAY, parts
from tests.timing import LONG

from .ai_sdk import Chatting, Clients, Seen, asking

CLIENTS = ("ai7", "ai6", "workflow", "assistant")
HEALS = {"ai7": ("reload", "resume"), "ai6": ("reload",), "workflow": (None,), "assistant": ("reload", "resume")}
"""What is done after a cut: ``reload`` the page, ``resume`` in the same one, or nothing, as the client heals it itself."""
PLACES = (1, 9, 40, -20, -2, -1)
"""Bytes of an event that go through before a cut; negative: all but so many. Some of them are inside of a character."""
PATH = "ai/kept"
SAID = [*parts(""), "[DONE]"]
FINISH = len(SAID) - 1
"""How many events there are up to ``finish``."""


def joined(deltas: list[str]) -> str:
    return "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16")


HALF = [("reasoning", joined(REASONING)), ("text", joined(TEXT[: WAY - 8]))]
WHOLE = [("reasoning", joined(REASONING)), ("text", joined(TEXT)), ("tool", {"place": "日本"}, {"sky": "☀️"}), ("text", "Schön.")]


def shown(seen: Seen) -> list[tuple[Any, ...]]:
    """What a client shows of the one answer."""
    (message,) = seen["messages"]
    found: list[tuple[Any, ...]] = []
    for part in message["parts"]:
        if part["type"] in ("text", "reasoning"):
            found.append((part["type"], part["text"]))
        elif part["type"] == "tool-weather":
            found.append(("tool", part.get("input"), part.get("output")))
    return found


def must_be_whole(seen: Seen) -> None:
    assert shown(seen) == WHOLE
    assert (seen["status"], seen["error"]) == ("ready", None)
    assert {part.get("state", "done") for part in seen["messages"][0]["parts"]} == {"done", "output-available"}


@pytest.fixture
def key() -> str:
    """The beginning of names of a test's own chats."""
    return secrets.token_hex(6)


@pytest.fixture(scope="module")
def clients(node: Node) -> Iterator[Clients]:
    with asking(node) as clients:
        yield clients


@pytest.fixture(scope="module")
def about(redis_url: str) -> dict[str, Any]:
    """The settings of servers that share a log."""
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    return {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], about: dict[str, Any]) -> Server:
    return start("uvicorn", agent_sse=about)


@pytest.fixture(scope="module")
def mortal(start: Callable[..., Server], about: dict[str, Any]) -> Server:
    """Another one, which ends."""
    return start("uvicorn", agent_sse=about)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_is_shown_whole_and_a_chat_without_one_is_ready(server: Server, clients: Clients, client: str) -> None:
    paths = [f"{PATH}/whole", *(["ai/once/whole/"] if client != "workflow" else [])]  # that one would ask for …//id/stream
    for path in paths:
        seen = clients.ask(client, server.url, path, chat=f"over-{client}").over()
        must_be_whole(seen)
        assert seen["requests"] == ["POST 200"]
        assert seen["events"] == len(SAID)
        assert [how.get("finishReason") for how in seen["finished"]] == ["stop"]
    if client.startswith("ai"):
        for path, chat_id in ((paths[0], "none"), (paths[1], f"over-{client}")):
            seen = clients.ask(client, server.url, path, chat=chat_id, resumes=True).over()
            assert (seen["messages"], seen["status"], seen["error"], seen["requests"]) == ([], "ready", None, ["GET 204"])


def has_marker(cut: dict[str, int]) -> bool:
    """Whether a cut lets ``"type":"finish"`` through, though not the whole event: that is the end to assistant-ui."""
    return cut["events"] == FINISH - 1 and cut["bytes"] not in (0, 1, 9)


def every_cut(client: str) -> list[dict[str, int]]:
    """After each event, and inside of each at all places; in the short form at one, another for the next, of two clients."""
    found = []
    for events in range(len(SAID) + 1):
        inside = PLACES if LONG else (PLACES[events % len(PLACES)],) if client in ("ai7", "workflow") else ()
        found += [{"events": events, "bytes": place} for place in (0, *(inside if events < len(SAID) else ()))]
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_wherever_the_connection_is_cut_the_answer_is_shown_whole_and_once(server: Server, clients: Clients, client: str) -> None:
    heals = HEALS[client]
    cuts = [(cut, heal) for cut in every_cut(client) for heal in (heals if LONG else [heals[cut["events"] % len(heals)]])]
    chats = [(cut, heal, clients.ask(client, server.url, f"{PATH}/slow", cut=cut, heal=heal)) for cut, heal in cuts]
    for cut, heal, chat in chats:
        seen = chat.over()
        had_finish = cut["events"] >= FINISH or (client == "assistant" and has_marker(cut))
        assert seen["events"] == cut["events"], (cut, heal)
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
            assert seen["urls"][1].endswith(f"/{seen['run']}/stream?startIndex={min(cut['events'], FINISH)}")


@pytest.mark.parametrize("clean", [True, False], ids=["ended", "broken"])
def test_every_connection_may_be_cut_and_the_client_that_counts_parts_loses_none(
    server: Server, clients: Clients, clean: bool
) -> None:
    sizes = range(1, len(SAID)) if LONG else (1, 2, 7, 8, 9, 12, len(SAID) - 1)
    chats = [
        (size, clients.ask("workflow", server.url, f"{PATH}/slow", cut={"events": size, "bytes": 3}, every=True, clean=clean))
        for size in sizes
    ]
    for size, chat in chats:
        seen = chat.over()
        if clean or 4 * size > FINISH:
            must_be_whole(seen)
            assert len(seen["requests"]) == -(-FINISH // size)
        else:  # three of its own requests in a row that break are too many for it
            assert seen["requests"] == ["POST 200", *["GET 200"] * 3]
            assert seen["error"].startswith("Error: Failed to reconnect after 3 consecutive errors.")
        for mine, whole in zip(shown(seen), WHOLE, strict=False):
            assert mine == whole or str(whole[1]).startswith(str(mine[1])) or mine[0] == "tool"


def test_a_page_that_asks_for_the_newest_parts_gets_those_that_are_whole_among_them(server: Server, clients: Clients) -> None:
    run = clients.ask("workflow", server.url, f"{PATH}/whole").over()["run"]
    starts = [at for at, part in enumerate(SAID) if part != "[DONE]" and str(part["type"]) in _BEGINS]
    chats: list[tuple[int, dict[str, int] | None, Chatting]] = []
    for newest in range(2, len(SAID) + 4) if LONG else (2, 6, 9, 10, 20, len(SAID) - 1, len(SAID), len(SAID) + 3):
        about = {"resumes": True, "run": run, "startIndex": -newest}
        chats += [
            (newest, cut, clients.ask("workflow", server.url, f"{PATH}/whole", cut=cut, **about))
            for cut in (None, {"events": min(newest, 3) - 1, "bytes": 5})
        ]
    for newest, cut, chat in chats:
        seen = chat.over()
        first = max(len(SAID) - newest, 0)
        expected = [part for at, part in zip(starts, WHOLE, strict=True) if at >= first]
        assert (shown(seen) if seen["messages"] else []) == expected, (newest, cut)
        assert (seen["status"], seen["error"]) == ("ready", None)
        path = f"{PATH}/whole/{run}/stream?startIndex="
        resumed = [f"{path}{first + cut['events']}"] if cut and first + cut["events"] < FINISH else []
        assert seen["urls"] == [f"{path}-{newest}", *resumed]


_BEGINS = {"text-start", "reasoning-start", "tool-input-available"}
"""Without the first two its text is passed over; what has a whole input is shown without its start."""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_run_that_fails_is_the_clients_error_now_and_after_a_reload(server: Server, clients: Clients, client: str) -> None:
    seen = clients.ask(client, server.url, f"{PATH}/failing").over()
    again = clients.ask(client, server.url, f"{PATH}/failing", chat=f"chat-{seen['id']}", run=seen["run"], resumes=True).over()
    for one in (seen, again):
        assert shown(one) == HALF
        assert (one["status"], one["error"]) == ("error", f"Error: {SENTENCES[RunEnding.FAILED]}")
        assert {part.get("state", "done") for part in one["messages"][0]["parts"]} == {"done"}
        assert len(one["requests"]) == 1
        assert one["finished"] == [{"isAbort": False, "isDisconnect": False, "isError": True}]


@pytest.mark.parametrize("script", ["waiting", "calling"])
def test_a_run_that_is_stopped_is_ready_with_what_there_is_and_nothing_is_sent_again(
    server: Server, clients: Clients, script: str
) -> None:
    chats = [clients.ask(client, server.url, f"{PATH}/{script}", wait="any") for client in CLIENTS]
    runs = [chat.begun() for chat in chats]
    for run in runs:
        assert server.get(f"{PATH}/{script}/{run}/stop", method="POST").status in (200, 202)
    for client, chat in zip(CLIENTS, chats, strict=True):
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


def readers(
    clients: Clients, mortal: Server, server: Server, key: str, path: str = f"{PATH}/waiting"
) -> list[tuple[str, Chatting]]:
    """Each client with a run of its own in a process that will end, and a second tab of two at another one."""
    if mortal.process.poll() is not None:
        mortal.restart()
    own = [
        (client, clients.ask(client, mortal.url, path, chat=f"{key}-{client}", wait="text", resumeAt=server.url))
        for client in CLIENTS
    ]
    runs = [chat.begun() for _, chat in own]
    tabs = [
        (client, clients.ask(client, server.url, path, chat=f"{key}-{client}", run=run, wait="text", resumes=True))
        for client, run in zip(CLIENTS, runs, strict=True)
    ]
    for _, chat in tabs:
        chat.begun()
    return [*own, *tabs]


def test_a_run_whose_server_is_told_to_end_is_interrupted(server: Server, mortal: Server, clients: Clients, key: str) -> None:
    chats = readers(clients, mortal, server, key)
    mortal.signal(signal.SIGTERM)
    for client, chat in chats:
        seen = chat.over()
        assert (seen["status"], seen["error"]) == ("error", f"Error: {SENTENCES[RunEnding.INTERRUPTED]}"), client
        assert shown(seen) == HALF
        assert len(seen["requests"]) == 1
    mortal.wait(STOP_SECONDS)


def test_a_run_whose_process_is_killed_is_lost_for_whoever_reads_on(
    server: Server, mortal: Server, clients: Clients, key: str
) -> None:
    chats = readers(clients, mortal, server, key, "ai/short/waiting")
    mortal.kill()
    for number, (client, chat) in enumerate(chats):
        seen = chat.over()
        assert shown(seen) == HALF
        if number < len(CLIENTS) and client != "workflow":  # its own connection broke; a reload shows the rest
            assert seen["error"] == "TypeError: terminated"
        else:
            assert (seen["status"], seen["error"]) == ("error", f"Error: {SENTENCES[RunEnding.LOST]}"), client
            assert len(seen["requests"]) == 1 + (number < len(CLIENTS))


def test_a_second_question_meanwhile_is_refused_and_leads_to_the_answer_that_goes_on(
    server: Server, clients: Clients, key: str
) -> None:
    first = clients.ask("ai7", server.url, f"{PATH}/waiting", chat=key, wait="text")
    run = first.begun()
    second = clients.ask("ai7", server.url, f"{PATH}/waiting", chat=key, heal="resume", wait="text")
    second.begun()
    server.open_gate(key)
    for chat in (first, second):
        must_be_whole(seen := chat.over())
        assert seen["run"] == run
    assert seen["requests"] == ["POST 409", "GET 200"]
    assert "another run goes on here" in seen["first"]["error"]
