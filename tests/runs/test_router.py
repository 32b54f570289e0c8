"""``router.run()`` through Django's ASGI handler: what starts, resumes and stops a run, who may, and how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.test import override_settings

from django_agent_sse import Context, Ending, Router, Stream, Topic, login_required
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import RouteError
from django_agent_sse.run_routes import RunAccess
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.wire import Wire, plain_headers
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.threads import lifelong
from django_agent_sse.wire import Event
from tests.ids import plain
from tests.inprocess import eventually
from tests.serving import Answer, ask, connect, served
from tests.timing import bound

from .logs import empty_log

PATIENCE = 60.0
STOPPED = (200, 202)
"""The answers to a stop: the run is over already, or about to be."""
BRIEF = Wire(name="brief", last=lambda ending, events: [Event(f"[{ending}]")], run_headers=plain_headers)


@pytest.fixture(autouse=True)
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(getattr(request, "param", "memory"), request) as one:
        yield one
    for companion in registry.companions:  # of runs that were told to end with their process
        companion.ending_topics = frozenset()  # type: ignore[misc]


both_logs = pytest.mark.parametrize("log", ["memory", "redis"], indirect=True)


class Gates:
    """Code of runs that goes on when a test says so, and notes what becomes of it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started = 0
        self.notes: list[str] = []
        self.router = Router()

    def talk(self, path: str = "chat/<slug:chat>/", **about: Any) -> Gates:
        """A run that writes one event, and another one when it may go on."""

        async def talk(c: Context, run: AsyncRun) -> None:
            self.started += 1
            try:
                await run.write(f"begun {c.params.get('chat', '')}")
                await run.flush()
                await self.go.wait()
                await run.write("done")
            except asyncio.CancelledError:
                self.notes.append("cancelled")
                raise
            finally:
                await asyncio.sleep(0.01)
                self.notes.append("finally")

        self.router.run(path, talk, **about)
        return self


async def over(location: str, log: EventLog) -> str:
    """The ending of a run, once it has one."""
    async with asyncio.timeout(PATIENCE):
        async for _ in Topic(topic_of(location)).follow():
            pass
    return (await log.astate(topic_of(location))).closed or ""


def run_of(location: str) -> str:
    return location.rstrip("/").rpartition("/")[2]


def topic_of(location: str) -> str:
    return f"runs.talk.{run_of(location)}"


async def begin(url: str = "/chat/42/", **headers: str) -> Answer:
    """Start a run without its stream."""
    return await ask(url, method="POST", body=b"{}", headers={"prefer": "respond-async", **headers})


# Starting


async def test_a_post_answers_with_the_stream_of_the_run_and_says_where_it_is() -> None:
    gates = Gates().talk()
    gates.go.set()
    with served(gates.router):
        answer = await ask("/chat/42/", method="POST", body=b"{}")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.data == ["begun 42", "done"]
    assert all(event.id for event in answer.events)
    id = answer.headers["x-run-id"]
    assert answer.headers["location"] == f"/chat/42/{id}/"
    assert ((await Topic(f"runs.talk.{id}").astate()).closed, gates.notes) == ("finished", ["finally"])


async def test_a_post_that_prefers_so_gets_202_at_once_and_where_to_look(log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        answer = await begin()
        told = answer.json()
        assert (answer.status, answer.headers["preference-applied"]) == (202, "respond-async")
        assert answer.headers["location"] == told["url"] == f"/chat/42/{told['run']}/"
        gates.go.set()
        assert (await ask(told["url"])).data == ["begun 42", "done"]
        assert await over(told["url"], log) == "finished"


async def test_the_run_goes_on_when_its_reader_leaves_and_is_resumed_without_a_loss_or_a_double() -> None:
    gates = Gates().talk()
    with served(gates.router):
        first = connect("/chat/42/", method="POST", body=b"{}")
        one = await first.event()
        first.leave()
        await first.over()
        second = connect("/chat/42/", last_event_id=one.id)
        await second.begun()
        gates.go.set()
        assert [event.data for event in await second.rest()] == ["done"]
        assert (await ask("/chat/42/")).data == ["begun 42", "done"]
    assert gates.notes == ["finally"]


async def test_a_reader_who_leaves_stops_the_run_where_the_route_says_so(log: EventLog) -> None:
    gates = Gates().talk(on_disconnect="cancel")
    with served(gates.router):
        first = connect("/chat/42/", method="POST", body=b"{}")
        await first.event()
        second = connect("/chat/42/")
        await second.event()
        second.leave()
        await second.over()
        assert (await log.astate(topic_of(first.headers["location"]))).closed is None, "only who began it stops it so"
        first.leave()
        await first.over()
        assert await over(first.headers["location"], log) == "stopped"
    assert gates.notes == ["cancelled", "finally"]


@both_logs
async def test_fifty_starts_with_one_key_are_one_run(log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        waiting = [
            asyncio.create_task(ask("/chat/42/", method="POST", body=b"{}", headers={"idempotency-key": "one"}))
            for _ in range(50)
        ]
        await eventually("it has begun", lambda: gates.started)
        gates.go.set()
        answers = await asyncio.gather(*waiting)
        late = await ask("/chat/42/", method="POST", body=b"{}", headers={"idempotency-key": '"one"'})
    assert gates.started == 1
    assert {answer.headers["x-run-id"] for answer in (*answers, late)} == {answers[0].headers["x-run-id"]}
    assert all(answer.data == ["begun 42", "done"] for answer in (*answers, late))


@both_logs
async def test_fifty_starts_without_a_key_are_one_run_and_49_conflicts_that_say_where_it_is(log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        answers = await asyncio.gather(*(begin() for _ in range(50)))
        gates.go.set()
        (first,) = (answer for answer in answers if answer.status == 202)
        refused = [answer for answer in answers if answer.status == 409]
        assert len(refused) == 49
        assert {answer.headers["location"] for answer in refused} == {first.headers["location"]}
        assert refused[0].json()["error"] == {
            "type": "conflict",
            "message": "another run goes on here: follow it, stop it, or wait for its end. Nothing was started",
            "run": first.json()["run"],
            "url": first.json()["url"],
        }
        await ask(first.headers["location"])
        assert (await begin()).status == 202, "the first one is over"
    await eventually("it ends", lambda: gates.notes == ["finally"] * 2)
    assert gates.started == 2


@both_logs
async def test_an_old_start_that_comes_again_gets_its_own_run_though_a_newer_one_goes_on(log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        gates.go.set()
        old = await ask("/chat/42/", method="POST", body=b"{}", headers={"idempotency-key": "old"})
        gates.go.clear()
        new = await begin(**{"idempotency-key": "new"})
        again = await ask("/chat/42/", method="POST", body=b"{}", headers={"idempotency-key": "old"})
        assert (again.data, again.headers["x-run-id"]) == (["begun 42", "done"], old.headers["x-run-id"])
        third = await begin(**{"idempotency-key": "third"})
        assert (third.status, third.headers["location"]) == (409, new.headers["location"])
        gates.go.set()
        await ask(new.headers["location"])
        assert (await begin(**{"idempotency-key": "third"})).status == 202, "what was refused may be tried again"
    await eventually("it ends", lambda: gates.notes == ["finally"] * 3)


async def test_runs_of_other_keys_do_not_get_in_the_way() -> None:
    gates = Gates().talk()
    with served(gates.router):
        assert [(await begin(f"/chat/{number}/")).status for number in range(3)] == [202] * 3
        gates.go.set()
        assert (await ask("/chat/1/")).data == ["begun 1", "done"]


async def test_a_route_without_values_in_its_path_has_as_many_runs_as_are_started() -> None:
    gates = Gates().talk("ask/")
    with served(gates.router):
        urls = [(await begin("/ask/")).headers["location"] for _ in range(3)]
        assert (await ask("/ask/")).status == 204
        gates.go.set()
        assert [(await ask(url)).data for url in urls] == [["begun ", "done"]] * 3


async def test_the_key_may_come_from_the_body_and_then_names_the_address_to_resume_at() -> None:
    """As the AI SDK's transport does: it posts the chat's id, and gets ``…/<id>/stream``."""

    async def chat_of(c: Context) -> str:
        return str((await c.json_body())["id"])

    gates = Gates().talk("api/chat", key=chat_of)
    with served(gates.router):
        for chat in ("été", "b"):
            body = json.dumps({"id": chat}).encode()
            assert (await ask("/api/chat", method="POST", body=body, headers={"prefer": "respond-async"})).status == 202
            assert (await ask("/api/chat", method="POST", body=body, headers={"prefer": "respond-async"})).status == 409
        gates.go.set()
        assert (await ask("/api/chat/été/stream")).data == ["begun ", "done"]
        assert (await ask("/api/chat/c/stream")).status == 204


async def test_the_request_can_still_be_read_when_its_response_is_over() -> None:
    seen: list[Any] = []
    go = asyncio.Event()
    here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="")
    router = Router()

    async def note(c: Context) -> bool:
        here.set("of the request")
        c.var.noted = 7
        return True

    @router.run("ask/", guards=[note], max_body=100)
    async def ask_later(c: Context, run: AsyncRun) -> None:
        await go.wait()
        seen.extend([await c.json_body(), c.request.body, c.header("X-Own"), here.get(), c.var.noted, c.user_pk])
        with pytest.raises(Exception, match="too late"):
            c.set_header("X-Late", "1")

    with served(router):
        answer = await ask("/ask/", method="POST", body=b'{"q": 1}', headers={"prefer": "respond-async", "x-own": "own"})
        go.set()
        await ask(answer.headers["location"])
        large = await ask("/ask/", method="POST", body=b" " * 101, headers={"prefer": "respond-async"})
    assert seen == [{"q": 1}, b'{"q": 1}', "own", "of the request", 7, None]
    assert (large.status, large.json()["error"]["type"]) == (413, "content_too_large")


async def test_a_factory_refuses_before_anything_has_begun(log: EventLog) -> None:
    router = Router()

    @router.run("ask/<int:number>/")
    async def checked(c: Context, number: int) -> Any:
        if number > 1:
            return c.json({"error": "no such question"}, status=422)
        c.set_header("X-Question", str(number))

        async def run(run: AsyncRun) -> None:
            await run.write(number)

        return run

    with served(router):
        assert (await ask("/ask/2/", method="POST")).status == 422
        assert (await ask("/ask/2/")).status == 204
        assert await log.atopics() == []
        answer = await ask("/ask/1/", method="POST")
    assert (answer.data, answer.headers["x-question"]) == (["1"], "1")


async def test_code_may_be_a_plain_function_or_a_generator() -> None:
    router, threads = Router(), []

    @router.run("plain/")
    def plain(c: Context, run: Run) -> None:
        threads.append(threading.current_thread())
        run.write("plain")
        time.sleep(0.05)
        run.write("done")

    @router.run("generator/")
    def generator(c: Context) -> Iterator[str]:
        threads.append(threading.current_thread())
        yield "generator"

    @router.run("async/")
    async def async_generator(c: Context) -> AsyncIterator[str]:
        yield "async"

    with served(router):
        assert (await ask("/plain/", method="POST")).data == ["plain", "done"]
        assert (await ask("/generator/", method="POST")).data == ["generator"]
        assert (await ask("/async/", method="POST")).data == ["async"]
    assert threading.main_thread() not in threads
    await eventually("the threads are given back", lambda: lifelong.taken == 0)


async def test_more_plain_functions_than_there_are_threads_are_overloaded(settings: Any) -> None:
    settings.AGENT_SSE = {**settings.AGENT_SSE, "PINNED_THREADS": 1}
    go, router = threading.Event(), Router()

    @router.run("plain/")
    def plain(c: Context, run: Run) -> None:
        go.wait(PATIENCE)

    with served(router):
        first = await begin("/plain/")
        second = await begin("/plain/")
        go.set()
        await ask(first.headers["location"])
    assert (first.status, second.status, second.json()["error"]["type"]) == (202, 503, "overloaded")
    await eventually("the thread is given back", lambda: lifelong.taken == 0)


async def test_a_process_that_is_drained_begins_no_run_and_goes_on_with_those_it_has() -> None:
    gates = Gates().talk()
    with served(gates.router):
        first = await begin()
        registry.drain(30)
        try:
            assert (await begin("/chat/43/")).status == 503
            assert (await ask(first.headers["location"], method="DELETE")).status in STOPPED
        finally:
            registry.drain(0)
        assert (await ask("/chat/42/")).data == ["begun 42"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_an_idempotency_key_that_is_none_is_400(key: str) -> None:
    gates = Gates().talk()
    with served(gates.router):
        answer = await begin(**{"idempotency-key": key})
    assert (answer.status, gates.started) == (400, 0)
    assert "Idempotency-Key" in answer.json()["error"]["message"]


@both_logs
async def test_an_idempotency_key_that_comes_again_with_another_request_is_422_and_starts_nothing(log: EventLog) -> None:
    gates = Gates().talk()
    key = {"idempotency-key": "one", "prefer": "respond-async"}
    with served(gates.router):
        first = await ask("/chat/42/", method="POST", body=b'{"q": 1}', headers=key)
        same = await ask("/chat/42/", method="POST", body=b'{"q": 1}', headers=key)
        assert (first.status, same.status, same.json()["run"]) == (202, 202, first.json()["run"])
        others = [
            await ask("/chat/42/", method="POST", body=b'{"q": 2}', headers=key),
            await ask("/chat/42/", method="POST", body=b"", headers=key),
            await ask("/chat/42/?model=b", method="POST", body=b'{"q": 1}', headers=key),
        ]
        gates.go.set()
        assert await over(first.headers["location"], log) == "finished"
        others.append(await ask("/chat/42/", method="POST", body=b'{"q": 2}', headers=key))
        assert (await ask("/chat/42/", method="POST", body=b'{"q": 1}', headers=key)).status == 202, "it is kept"
    assert {(answer.status, answer.json()["error"]["type"]) for answer in others} == {(422, "unprocessable_content")}
    assert "Send the same request to get its run, or another key" in others[0].json()["error"]["message"]
    assert gates.started == 1
    assert await log.atopics() == [topic_of(first.headers["location"])]


@both_logs
async def test_of_two_requests_with_one_idempotency_key_at_once_one_begins_and_the_other_is_422(log: EventLog) -> None:
    gates = Gates().talk()
    key = {"idempotency-key": "one", "prefer": "respond-async"}
    with served(gates.router):
        answers = await asyncio.gather(
            *(ask("/chat/42/", method="POST", body=b"%d" % (number % 2), headers=key) for number in range(20))
        )
        gates.go.set()
        begun = next(answer for answer in answers if answer.status == 202)
        await over(begun.headers["location"], log)
    assert sorted(answer.status or 0 for answer in answers) == [202] * 10 + [422] * 10
    assert gates.started == 1


async def test_a_key_whose_start_was_refused_may_come_with_another_request() -> None:
    gates = Gates().talk()
    with served(gates.router):
        first = await begin()
        refused = await ask("/chat/42/", method="POST", body=b"1", headers={"idempotency-key": "k", "prefer": "respond-async"})
        gates.go.set()
        await ask(first.headers["location"])
        again = await ask("/chat/42/", method="POST", body=b"2", headers={"idempotency-key": "k", "prefer": "respond-async"})
    assert (refused.status, again.status) == (409, 202)
    await eventually("both end", lambda: gates.notes == ["finally"] * 2)


# Resuming


async def test_where_nothing_runs_and_nothing_is_kept_a_get_is_204(log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        assert (await ask("/chat/42/")).status == 204
        answer = await begin()
        gates.go.set()
        await over(answer.headers["location"], log)
        assert (await ask("/chat/42/")).status == 200
        await log.adelete(topic_of(answer.headers["location"]))
        assert (await ask("/chat/42/")).status == 204
        assert (await ask(answer.headers["location"])).status == 404
    assert gates.started == 1


async def test_a_run_that_is_over_is_204_where_the_route_does_not_replay_it() -> None:
    gates = Gates().talk(replay=False)
    with served(gates.router):
        answer = await begin()
        assert (await connect("/chat/42/").event()).data == "begun 42"
        gates.go.set()
        whole = await ask(answer.headers["location"])
        assert whole.data == ["begun 42", "done"]
        assert (await ask("/chat/42/")).status == 204
        assert (await ask("/chat/42/", last_event_id=whole.events[0].id)).data == ["done"], "it asks for the rest"


async def test_a_client_that_was_cut_off_after_the_last_event_gets_it_again() -> None:
    """It cannot know that it was the last. One with control events is told by them."""
    gates = Gates().talk()
    gates.go.set()
    with served(gates.router):
        whole = await ask("/chat/42/", method="POST", body=b"{}")
        last = whole.events[-1].id
        assert (await ask("/chat/42/", last_event_id=last)).data == ["done"]
        told = await ask("/chat/42/", last_event_id=last, headers={"accept": "text/event-stream"})
        assert [event.name for event in told.events] == ["sse.end"]
        end = told.events[-1].id
        assert (await ask("/chat/42/", last_event_id=end, headers={"accept": "text/event-stream"})).status == 204


ALL = ["begun 42", "done"]


def count_of(request: Any) -> int | None:
    return int(request.GET["startIndex"]) if "startIndex" in request.GET else None


@pytest.mark.parametrize(("start", "data"), [("0", ALL), ("1", ["done"]), ("2", ["done"]), ("-1", ["done"]), ("-9", ALL)])
async def test_a_wire_says_where_a_client_wants_to_go_on(start: str, data: list[str]) -> None:
    gates = Gates().talk(wire=Wire(name="counts", position=count_of))
    gates.go.set()
    with served(gates.router):
        await ask("/chat/42/", method="POST", body=b"{}")
        assert (await ask(f"/chat/42/?startIndex={start}", last_event_id="nonsense")).data == data


async def test_a_post_with_a_position_and_the_id_of_a_run_resumes_it_and_starts_nothing() -> None:
    """As TanStack's client heals a cut: the same POST again."""
    gates = Gates().talk("ask/")
    with served(gates.router):
        first = connect("/ask/", method="POST", body=b"{}")
        one = await first.event()
        id = first.headers["x-run-id"]
        first.leave()
        again = connect("/ask/", method="POST", body=b"{}", last_event_id=one.id, headers={"x-run-id": id})
        await again.begun()
        gates.go.set()
        assert [event.data for event in await again.rest()] == ["done"]
        assert (await ask(f"/ask/?runId={id}")).data == ["begun ", "done"]
        assert (await ask("/ask/", method="POST", last_event_id=one.id)).status == 404
        assert (await ask("/ask/", method="POST", headers={"x-run-id": f"run_{'x' * 16}"})).status == 404
    assert gates.started == 1


# Stopping


@pytest.mark.parametrize("how", ["DELETE", "stop", "cancel", "query", "header"])
async def test_a_run_is_stopped_by_its_id_and_its_readers_see_the_end(how: str, log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        answer = await begin()
        url, id = answer.headers["location"], answer.json()["run"]
        reader = connect(url)
        await reader.event()
        asked = {
            "DELETE": lambda: ask(url, method="DELETE"),
            "stop": lambda: ask(f"{url}stop", method="POST"),
            "cancel": lambda: ask(f"{url}cancel", method="POST"),
            "query": lambda: ask(f"/chat/42/?run_id={id}", method="DELETE"),
            "header": lambda: ask("/chat/42/", method="DELETE", headers={"x-run-id": id}),
        }[how]
        stopped = await asked()
        ending = stopped.json()["ending"]
        assert (stopped.status, stopped.json()) == (200 if ending else 202, {"run": id, "ending": ending})
        assert ending in (None, "stopped"), "it may have ended by the time of the answer"
        assert await reader.rest() == []
        again = await asked()
        assert (again.status, again.json()) == (200, {"run": id, "ending": "stopped"})
    assert gates.notes == ["cancelled", "finally"]


@both_logs
async def test_a_stop_while_the_model_thinks_is_over_within_half_a_second_and_finally_has_run(log: EventLog) -> None:
    notes: list[str] = []
    router = Router()

    @router.run("think/", wire=BRIEF, lease=3000)
    async def talk(c: Context, run: AsyncRun) -> None:
        await run.write("thinking")
        try:
            await asyncio.sleep(10 * PATIENCE)
        finally:
            notes.append("finally")

    with served(router):
        reader = connect("/think/", method="POST", body=b"{}")
        await reader.event()
        began = time.monotonic()
        assert (await ask(reader.headers["location"], method="DELETE")).status in STOPPED
        assert [event.data for event in await reader.rest()] == ["[stopped]"]
        took = time.monotonic() - began
    assert took < bound(0.5, PATIENCE)  # the renewal of the lease would come after a thousand seconds
    assert notes == ["finally"]


@both_logs
async def test_nothing_comes_after_the_last_event_of_forty_runs_that_are_stopped_while_they_write(log: EventLog) -> None:
    router = Router()

    @router.run("flood/", wire=BRIEF)
    async def talk(c: Context, run: AsyncRun) -> None:
        number = 0
        while True:
            await run.write(number)
            number += 1
            if number % 20 == 0:
                await asyncio.sleep(0.004)

    async def one() -> list[str]:
        reader = connect("/flood/", method="POST", body=b"{}")
        await reader.take(20)
        await ask(f"/flood/{reader.headers['x-run-id']}/", method="DELETE")
        await asyncio.wait_for(reader.task, PATIENCE)
        whole = [event.data for event in await Topic(f"runs.talk.{reader.headers['x-run-id']}").aread(limit=1_000_000)]
        assert reader.complete
        return whole

    with served(router):
        for _ in range(4):
            for data in await asyncio.gather(*(one() for _ in range(10))):
                assert data == [*map(str, range(len(data) - 1)), "[stopped]"]


async def test_a_stop_of_an_older_run_does_not_hit_the_newer_one(log: EventLog) -> None:
    gates = Gates().talk()
    gates.go.set()
    with served(gates.router):
        first = (await begin()).headers["location"]
        await over(first, log)
        gates.go.clear()
        second = (await begin()).headers["location"]
        assert (await ask(first, method="DELETE")).json()["ending"] == "finished"
        await asyncio.sleep(0.5)
        assert (await log.astate(topic_of(second))).closed is None
        gates.go.set()
        assert await over(second, log) == "finished"


async def test_a_stop_of_an_unknown_run_is_404_and_leaves_nothing_behind(log: EventLog) -> None:
    gates = Gates().talk()
    with served(gates.router):
        assert (await ask(f"/chat/42/run_{'x' * 16}/", method="DELETE")).status == 404
        assert (await ask(f"/chat/42/run_{'x' * 16}/stop", method="POST")).status == 404
        nameless = await ask("/chat/42/", method="DELETE")
        assert (nameless.status, "which run?" in nameless.json()["error"]["message"]) == (400, True)
        assert (await ask("/chat/42/history/stop", method="POST")).status == 404
    assert await log.atopics() == []


async def test_a_plain_function_learns_of_a_stop_when_it_writes() -> None:
    router, notes = Router(), []

    @router.run("plain/")
    def talk(c: Context, run: Run) -> None:
        try:
            while True:
                run.write("more")
                time.sleep(0.01)
        finally:
            notes.append("finally")

    with served(router):
        reader = connect("/plain/", method="POST", body=b"{}")
        await reader.event()
        await ask(reader.headers["location"], method="DELETE")
        await reader.rest()
    assert notes == ["finally"]


# Who may


def signed_in(users: list[User]) -> Any:
    async def sign_in(c: Context) -> bool:
        if (name := c.header("X-User")) is not None:
            c.user = next(user for user in users if user.username == name)
        return True

    return sign_in


async def test_only_who_has_started_a_run_resumes_and_stops_it(log: EventLog) -> None:
    users = [User(pk=number, username=name) for number, name in enumerate(("ada", "ben"), 1)]
    gates = Gates().talk(guards=[signed_in(users), login_required])
    ada, ben = {"x-user": "ada"}, {"x-user": "ben"}
    with served(gates.router):
        url = (await begin(**ada)).headers["location"]
        for where, method in (
            ("/chat/42/", "GET"),
            (url, "GET"),
            (url, "DELETE"),
            (f"{url}stop", "POST"),
            (f"{url[:-1]}", "GET"),
        ):
            assert (await ask(where, method=method, headers=ben)).status == 403, (where, method)
            assert (await ask(where, method=method)).status == 401, (where, method)
        conflict = await begin(**ben)
        assert (conflict.status, conflict.headers.get("location"), set(conflict.json()["error"])) == (
            409,
            None,
            {"type", "message"},
        )
        same = await ask("/chat/43/", method="POST", headers={**ada, "prefer": "respond-async", "idempotency-key": "k"})
        other = await ask("/chat/44/", method="POST", headers={**ben, "prefer": "respond-async", "idempotency-key": "k"})
        assert same.json()["run"] != other.json()["run"]
        gates.go.set()
        assert (await ask(url, headers=ada)).data == ["begun 42", "done"]
        assert (await ask("/chat/42/", headers=ben)).status == 403
    assert gates.started == 3


async def test_a_hook_says_otherwise_for_each_verb() -> None:
    asked: list[RunAccess] = []

    async def members(c: Context, run: RunAccess) -> Any:
        asked.append(run)
        if run.verb == "stop":
            return run.own
        return c.header("X-User") in ("ada", "ben") or c.json({"error": "members only"}, status=403)

    users = [User(pk=number, username=name) for number, name in enumerate(("ada", "ben", "eve"), 1)]
    gates = Gates().talk(guards=[signed_in(users)], access=members)
    with served(gates.router):
        assert (await begin(**{"x-user": "eve"})).status == 403
        url = (await begin(**{"x-user": "ada"})).headers["location"]
        assert (await ask(url, headers={"x-user": "eve"})).json() == {"error": "members only"}
        assert (await ask(url, method="DELETE", headers={"x-user": "ben"})).status == 403
        gates.go.set()
        assert (await ask(url, headers={"x-user": "ben"})).data == ["begun 42", "done"]
    assert [(run.verb, run.own) for run in asked] == [
        ("start", True),
        ("start", True),
        ("resume", False),
        ("stop", False),
        ("resume", False),
    ]


async def test_a_hook_that_forgets_to_return_refuses() -> None:
    async def forgets(c: Context, run: RunAccess) -> Any:
        return None

    gates = Gates().talk(access=forgets)
    with served(gates.router):
        assert (await begin()).status == 500
    assert gates.started == 0


# Endings


async def test_a_run_that_fails_ends_with_the_wires_words_is_logged_and_breaks_off(caplog: Any, log: EventLog) -> None:
    router = Router()
    seen: list[str] = []

    def last(ending: RunEnding, events: Any) -> list[Event]:
        seen.extend(event.data for event in events)
        return [Event(f"[{ending}]")]

    @router.run("fail/", wire=Wire(name="w", last=last))
    async def talk(c: Context, run: AsyncRun) -> None:
        await run.write("one")
        raise ValueError("the model is away")

    with served(router), caplog.at_level(logging.ERROR, "django_agent_sse.runs"):
        answer = await ask("/fail/", method="POST", broken_off=True)
    assert answer.data == ["one", "[failed]"]
    assert seen == ["one"]
    assert "the model is away" in caplog.text


async def test_code_that_exits_fails_its_own_run() -> None:
    router = Router()

    @router.run("exit/")
    async def talk(c: Context, run: AsyncRun) -> None:
        raise SystemExit(2)

    @router.run("cancel/")
    async def cancels(c: Context, run: AsyncRun) -> None:
        raise asyncio.CancelledError

    with served(router):
        assert (await ask("/exit/", method="POST", broken_off=True)).status == 200
        assert (await ask("/cancel/", method="POST", broken_off=True)).status == 200


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "sync"])
async def test_runs_of_a_process_that_ends_are_interrupted_and_their_readers_are_not_told_that_it_is_whole(
    blocks: bool, log: EventLog
) -> None:
    notes: list[str] = []
    router = Router()

    async def wait(c: Context, run: AsyncRun) -> None:
        try:
            await run.write("begun")
            await asyncio.sleep(60)
        finally:
            notes.append("finally")

    def block(c: Context, run: Run) -> None:
        try:
            run.write("begun")
            while True:
                time.sleep(0.01)
                run.write("more")
        finally:
            notes.append("finally")

    router.run("talk/", block if blocks else wait, name="talk", wire=BRIEF, topic="runs.talk")
    with served(router):
        url = (await begin("/talk/")).headers["location"]
        reader = connect(url)
        await reader.event()
        for companion in registry.companions:
            companion.shut_down()
        assert (await reader.broken_off())[-1].data == "[interrupted]"
        assert await over(url, log) == "interrupted"
    assert notes == ["finally"]
    await eventually("nothing goes on", lambda: not any(companion.busy for companion in registry.companions))


async def test_who_follows_such_a_run_has_a_moment_after_its_end_to_say_so(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AFTER_LAST_EVENTS_SECONDS", "LAST_EVENTS_SECONDS"):  # how long it is, is tried elsewhere
        monkeypatch.setattr(f"django_agent_sse.streams.registry.{name}", PATIENCE)
    router = Router()

    @router.run("talk/", wire=BRIEF, topic="runs.talk")
    async def talk(c: Context, run: AsyncRun) -> None:
        await run.write("begun")
        await asyncio.sleep(60)

    @router.sse("watch/<str:run>/")
    async def watch(c: Context, stream: Stream, run: str) -> None:
        result = await stream.follow(f"runs.talk.{run}")
        await asyncio.sleep(0.2)
        await stream.write(f"it was {result.reason}")

    with served(router):
        run = (await begin("/talk/")).json()["run"]
        reader = connect(f"/watch/{run}/")
        await reader.event()
        try:
            registry.end_all(Ending.SHUTDOWN)
            assert [event.data for event in await reader.broken_off()] == ["[interrupted]", "it was interrupted"]
        finally:
            registry._closing_until = 0.0
    await eventually("nothing goes on", lambda: not any(companion.busy for companion in registry.companions))


# What a route cannot take


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"wire": "ai-sdk"}, "not a Wire"),
        ({"key": lambda c: "x"}, "async"),
        ({"access": lambda c, run: True}, "async def access"),
        ({"lease": 0}, "seconds, from 1"),
        ({"max_body": -1}, "bytes, up to"),
        ({"topic": "runs.{}"}, "field"),
        ({"methods": ["PUT"]}, "leave methods out"),
        ({"slim": True}, "slim=True"),
        ({"on_disconnect": "stop"}, "'cancel' to stop"),
        ({"hartbeat": 3}, "heartbeat"),
        ({"on_error": print}, "on_error"),
    ],
    ids=plain,
)
def test_what_a_route_of_runs_cannot_take_is_refused_where_it_is_written(about: dict[str, Any], message: str) -> None:
    async def talk(c: Context, run: AsyncRun) -> None: ...

    with pytest.raises(RouteError, match=message):
        Router().run("talk/", talk, **about)


async def test_other_addresses_below_a_route_of_runs_are_the_projects_own() -> None:
    gates = Gates().talk()
    router = Router()
    router.include(gates.router)

    @router.sse("chat/<slug:chat>/history/")
    async def history(c: Context, chat: str) -> AsyncIterator[str]:
        yield "history"

    with served(router):
        assert (await ask("/chat/42/history/")).data == ["history"]


def test_w015_runs_in_the_memory_of_one_process() -> None:
    gates = Gates().talk().talk("other/", name="other")
    with served(gates.router):
        told = [message for message in run_checks(include_deployment_checks=True) if message.id == "django_agent_sse.W015"]
        assert [message for message in run_checks() if message.id == "django_agent_sse.W015"] == []
        with override_settings(AGENT_SSE={}):
            assert "W015" not in "".join(message.id or "" for message in run_checks(include_deployment_checks=True))
    (message,) = told
    assert "'chat/<slug:chat>/', 'other/'" in message.msg
    assert message.hint


def test_e004_code_that_the_url_does_not_fit() -> None:
    router = Router()

    @router.run("talk/<int:number>/")
    async def talk(c: Context, run: AsyncRun, other: str) -> None: ...

    with served(router):
        messages = [message for message in run_checks() if message.id == "django_agent_sse.E004"]
    assert messages
    assert "takes run, other, but the URL captures number" in messages[0].msg


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
async def test_a_client_who_leaves_while_its_run_begins_leaves_no_lease_behind_that_nobody_holds(turns: int) -> None:
    gates = Gates().talk()
    gates.go.set()
    with served(gates.router):
        leaving = connect("/chat/42/", method="POST", body=b"{}")
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.leave()
        await leaving.over()
        async with asyncio.timeout(PATIENCE):
            while (answer := await begin()).status == 409:  # the run of the one who left goes on to its end
                await ask(answer.headers["location"])
        assert answer.status == 202
        assert (await ask(answer.headers["location"])).data == ["begun 42", "done"]
    await eventually("each that has begun ends", lambda: len(gates.notes) == gates.started)
    assert gates.notes == ["finally"] * gates.started
