"""``router.log()``: a topic of lines as a stream, in parts as JSON, and as text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.urls import reverse

from django_agent_sse import Context, Event, Router, Topic, log_parts, login_required
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import EventLogUnavailable, RouteError
from django_agent_sse.log_parts import MAX_COUNT
from django_agent_sse.logs import LogTail, log_tail, part_of_log
from django_agent_sse.wire.redraws import Redraw
from tests.inprocess import eventually
from tests.serving import ask, connect, served

pytestmark = pytest.mark.usefixtures("event_log")


@pytest.fixture(name="event_log")
def own_log() -> Any:
    """A log without topics, before and after."""
    event_log().clear_all()
    yield
    event_log().clear_all()


def builds(**about: Any) -> Router:
    router = Router()
    router.log("builds/<slug:id>/log/", "builds.{id}", name="build-log", **about)
    return router


async def written(name: str = "builds.1") -> Topic:
    topic = Topic(name)
    await topic.apublish_many(
        [Event("one", event="stdout"), Event("two\n<three>", event="stderr"), "four", Event('{"code":0}', event="exit")]
    )
    return topic


async def test_the_stream_is_the_topics_own() -> None:
    topic = await written()
    await topic.aclose()
    with served(builds()):
        answer = await ask("/builds/1/log/")
    assert answer.data == ["one", "two\n<three>", "four", '{"code":0}']


async def test_a_part_has_offsets_ids_times_and_the_state_of_the_topic() -> None:
    await written()
    state = await Topic("builds.1").astate()
    with served(builds()):
        answer = await ask("/builds/1/log/range/?from=2&count=2")
    found = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert {name: found[name] for name in ("epoch", "floor", "top", "closed")} == {
        "epoch": state.epoch,
        "floor": 0,
        "top": 4,
        "closed": None,
    }
    assert [(one["offset"], one["id"], one["event"], one["data"]) for one in found["records"]] == [
        (2, f"{state.epoch}.2", "stderr", "two\n<three>"),
        (3, f"{state.epoch}.3", None, "four"),
    ]
    assert all(abs(one["at"] - (state.newest_at or 0)) < 60 for one in found["records"])


@pytest.mark.parametrize(
    ("query", "offsets"),
    [
        ("", [1, 2, 3, 4]),
        ("from=-1", [4]),
        ("from=-99", [1, 2, 3, 4]),
        ("from=5", []),
        ("from=4&count=5000", [4]),
        ("from=9999", []),
    ],
)
async def test_where_a_part_begins(query: str, offsets: list[int]) -> None:
    await written()
    with served(builds()):
        found = (await ask(f"/builds/1/log/range/?{query}")).json()
    assert [one["offset"] for one in found["records"]] == offsets


async def test_a_part_of_what_is_no_longer_kept_begins_with_the_oldest_line_that_is() -> None:
    topic = await written()
    await event_log().atrim(topic.name, max_events=2)
    await topic.aclose("failed")
    with served(builds()):
        found = (await ask("/builds/1/log/range/?from=1")).json()
    assert (found["floor"], found["closed"], [one["offset"] for one in found["records"]]) == (2, "failed", [3, 4])


async def test_a_topic_that_does_not_exist_has_no_parts_and_no_epoch() -> None:
    with served(builds()):
        assert (await ask("/builds/9/log/range/")).json() == {"epoch": "", "floor": 0, "top": 0, "closed": None, "records": []}


@pytest.mark.parametrize(
    "query", ["from=0", "count=0", "count=-1", f"count={MAX_COUNT + 1}", "from=x", "from=1.5", "from=" + "9" * 30, "from=%C2%B2"]
)
async def test_a_part_that_cannot_be_is_refused_with_what_can(query: str) -> None:
    with served(builds()):
        answer = await ask(f"/builds/1/log/range/?{query}")
    assert answer.status == 400
    assert ("whole number" in answer.json()["error"]["message"]) or (str(MAX_COUNT) in answer.json()["error"]["message"])


async def many(count: int = 300) -> Topic:
    topic = Topic("builds.1")
    named = {50: "ERROR: one", 120: "warning: two", 200: "ERROR: three"}
    await topic.apublish_many([Event(named.get(number, f"line {number}"), event="stdout") for number in range(1, count + 1)])
    return topic


@pytest.mark.parametrize(
    ("query", "offsets", "next"),
    [
        ("before=&count=3", [298, 299, 300], {"before": 298}),
        ("before=298&count=3", [295, 296, 297], {"before": 295}),
        ("before=3&count=5", [1, 2], None),
        ("before=1", [], None),
        ("before=999999&count=1", [300], {"before": 300}),
        ("after=298", [299, 300], None),
        ("after=&count=2", [1, 2], {"after": 2}),
        ("after=300", [], None),
    ],
)
async def test_a_part_may_end_before_a_place_or_begin_after_it(
    query: str, offsets: list[int], next: dict[str, int] | None
) -> None:
    await many()
    with served(builds()):
        found = (await ask(f"/builds/1/log/range/?{query}")).json()
    assert ([one["offset"] for one in found["records"]], found["next"]) == (offsets, next)


async def test_before_a_place_the_nearest_ones_come_where_not_all_fit() -> None:
    await Topic("builds.1").apublish_many([f"{number}{'x' * 400_000}" for number in range(1, 10)])
    with served(builds()):
        found = (await ask("/builds/1/log/range/?before=9&count=8")).json()
    assert [one["offset"] for one in found["records"]] == [7, 8]
    assert found["next"] == {"before": 7}


async def test_a_search_says_what_matches_of_what_level_in_which_context() -> None:
    await many()
    with served(builds()):
        found = (await ask("/builds/1/log/range/?level=error,warning&context=1&limit=2")).json()
    assert [(one["offset"], one["match"], one.get("level"), one["data"]) for one in found["records"]] == [
        (119, False, None, "line 119"),
        (120, True, "warning", "warning: two"),
        (121, False, None, "line 121"),
        (199, False, None, "line 199"),
        (200, True, "error", "ERROR: three"),
        (201, False, None, "line 201"),
    ]
    assert (found["matches"], found["top"], found["next"], found["scanned"]["last"]) == (2, 300, {"before": 120}, 300)


async def test_a_search_goes_on_where_it_is_told_to_and_ends() -> None:
    await many()
    with served(builds()):
        first = (await ask("/builds/1/log/range/?grep=error&after=&limit=1")).json()
        second = (await ask("/builds/1/log/range/?grep=error&after=50&limit=1")).json()
        third = (await ask("/builds/1/log/range/?grep=ERROR&case=1&after=200")).json()
    assert [one["offset"] for one in (*first["records"], *second["records"], *third["records"])] == [50, 200]
    assert (first["next"], second["next"], third["scanned"]) == ({"after": 50}, None, {"first": 201, "last": 300})


async def test_errors_are_counted_beside_whatever_is_asked_for() -> None:
    await many()
    with served(builds()):
        found = (await ask("/builds/1/log/range/?from=-1&levels=1")).json()
    assert [one["offset"] for one in found["records"]] == [300]
    assert found["levels"] == {"errors": 2, "warnings": 1, "first_error": 50, "first_warning": 120, "upto": 300}


async def test_a_search_may_say_where_and_how_often_alone() -> None:
    await Topic("builds.1").apublish_many(
        [Event("no"), Event("a Needle, a needle"), Event("needle\nno\nneedle needle"), Event("\x1b[1mnee\x1b[0mdle")]
    )
    with served(builds()):
        back = (await ask("/builds/1/log/range/?grep=needle&places=1&limit=2")).json()
        rest = (await ask("/builds/1/log/range/?grep=needle&places=1&before=3")).json()
        lines = (await ask("/builds/1/log/range/?source=stdout&places=1&after=2&limit=50000")).json()
    assert (back["offsets"], back["counts"], back["records"], back["next"]) == ([3, 4], [3, 1], [], {"before": 3})
    assert (rest["offsets"], rest["counts"], rest["scanned"], rest["next"]) == ([2], [2], {"first": 1, "last": 2}, None)
    assert (lines["offsets"], lines["counts"]) == ([3, 4], [3, 1]), "lines, where no text is sought"


async def test_places_are_not_bounded_by_what_stands_there() -> None:
    await Topic("builds.1").apublish_many([f"hit {number} {'x' * 100_000}" for number in range(1, 31)])
    with served(builds()):
        records = (await ask("/builds/1/log/range/?grep=hit&limit=1000")).json()
        places = (await ask("/builds/1/log/range/?grep=hit&limit=1000&places=1")).json()
    assert 1 <= records["matches"] <= 11
    assert places["offsets"] == [*range(places["scanned"]["first"], 31)]
    assert len(places["offsets"]) > records["matches"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("grep=x&places=1&limit=50001", "limit is 1 to 50000"),
        ("grep=x&places=1&context=1", "context 0 to 0"),
        ("grep=x&places=2", "neither 0 nor 1"),
        ("grep=x&limit=0", "limit is 1 to 1000"),
        ("grep=x&limit=1001", "limit is 1 to 1000"),
        ("grep=x&context=21", "context 0 to 20"),
        ("grep=x&regex=2", "neither 0 nor 1"),
        (f"grep={'x' * 501}", "500 characters"),
        ("level=fatal", "not a level"),
        ("source=tty", "not a source"),
        ("grep=x&before=-2", "the number of an event"),
        ("before=1&after=2", "two directions"),
        ("before=x", "whole number"),
        ("before=5&count=0", "1 to 5000"),
    ],
)
async def test_a_search_that_cannot_be_is_refused_with_what_can(query: str, says: str) -> None:
    with served(builds()):
        answer = await ask(f"/builds/1/log/range/?{query}")
    assert (answer.status, says in answer.json()["error"]["message"]) == (400, True)


async def test_more_searches_than_may_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    await many()
    monkeypatch.setattr(log_parts._turns, "waiting", log_parts.WAITING)
    with served(builds()):
        answer = await ask("/builds/1/log/range/?grep=x")
    assert (answer.status, answer.headers["retry-after"], answer.json()["error"]["type"]) == (503, "1", "overloaded")


async def test_the_text_of_a_log_is_what_was_left_of_it() -> None:
    topic = Topic("builds.1")
    await topic.apublish_many([Event("a 0", event="stdout"), Event("b 0", event="stdout"), Event("oops", event="stderr")])
    await topic.apublish_many([Redraw(2, "a 1\nb 1").event("stdout"), Redraw(0, "a 2\nb 2").event("stdout")])
    with served(builds()):
        assert (await ask("/builds/1/log/raw/?follow=0")).body == b"oops\na 2\nb 2\n"
        assert (await sync_to_async(log_tail)("builds.1", 9)).text == "oops\na 2\nb 2\n"
        await topic.apublish_many([Redraw(0, "").event("stdout"), Event("a 3", event="stdout"), Event("b 3", event="stdout")])
        await topic.aclose()
        for part in ("raw/", "raw/?follow=0", "raw/?download=1"):
            assert (await ask(f"/builds/1/log/{part}")).body == b"oops\na 3\nb 3\n"
        assert (await sync_to_async(log_tail)("builds.1", 9)).text == "oops\na 3\nb 3\n"


async def test_a_page_holds_the_lines_before_a_last_one_that_is_as_large_as_they_may_be() -> None:
    topic = Topic("builds.1")
    await topic.apublish_many([Event(f"line {n}".ljust(2000, "."), event="stdout") for n in range(90)])
    await topic.apublish("x" * 900_000, event="stdout")
    tail = await sync_to_async(log_tail)("builds.1", 91)
    assert [line[:8] for line in tail.lines] == [*(f"line {n}".ljust(8, ".") for n in range(90)), "xxxxxxxx"]
    assert tail.position.endswith(".91")


async def test_the_text_that_follows_ends_with_a_draft_that_was_never_finished() -> None:
    topic = Topic("builds.1")
    await topic.apublish_many([Event("a", event="stdout"), Redraw(0, "42%").event("stdout")])
    with served(builds(), middleware=[]):
        client = connect("/builds/1/log/raw/")
        await eventually("the lines", lambda: client.raw == b"a\n")
        await topic.apublish("b", event="stderr")
        await eventually("the lines", lambda: client.raw == b"a\nb\n")
        await topic.aclose("lost")
        await client.over()
    assert client.raw == b"a\nb\n42%\n"


async def test_the_text_of_a_log_that_goes_on_begins_with_what_was_left_of_it() -> None:
    topic = Topic("builds.1")
    await topic.apublish_many([Event("a 0", event="stdout"), Redraw(1, "a 1").event("stdout"), Redraw(0, "").event("stdout")])
    await topic.apublish_many([Event("a 2", event="stdout"), Redraw(0, "42%").event("stdout")])
    with served(builds(), middleware=[]):
        client = connect("/builds/1/log/raw/")
        await eventually("the lines", lambda: client.raw == b"a 2\n")
        await topic.apublish_many([Redraw(0, "").event("stdout"), Event("100%", event="stdout")])
        await eventually("the next line", lambda: client.raw == b"a 2\n100%\n")
        await topic.aclose("completed")
        await client.over()
    assert client.raw == b"a 2\n100%\n"


async def test_a_log_that_cannot_be_read_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise EventLogUnavailable("the store is away")

    monkeypatch.setattr(event_log(), "_read_after", fails)
    with served(builds()):
        answer = await ask("/builds/1/log/range/")
    assert (answer.status, answer.headers["retry-after"], answer.json()) == (
        503,
        "5",
        {"error": {"type": "overloaded", "message": "the event log cannot be read now"}},
    )


async def test_an_outage_is_said_once_by_every_door_and_counted_and_no_client_gets_its_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise EventLogUnavailable("DATABASES['default'] at 10.1.2.3 cannot be reached")

    parts = ("", "range/", "raw/", "raw/?follow=0", "raw/?download=1")
    log = event_log()
    topic = Topic("builds.1")
    await topic.apublish("x")
    with served(builds()):
        with monkeypatch.context() as away:
            for verb in ("_read_after", "_state", "_summaries"):
                away.setattr(log, verb, fails)
            for _ in range(5):
                for part in parts:
                    for accept in ("text/event-stream", "*/*"):
                        answer = await ask(f"/builds/1/log/{part}", headers={"accept": accept})
                        assert b"10.1.2.3" not in answer.body
                        assert b"DATABASES" not in answer.body
                        assert answer.status == 503 or b"sse.overloaded" in answer.body
                assert await sync_to_async(log_tail)("builds.1", 10) == LogTail()
        said = [record for record in caplog.records if record.name.startswith("django_agent_sse")]
        assert [(record.levelname, record.exc_info) for record in said] == [("WARNING", None)], "one line, no traceback"
        assert "the event log cannot be read now (EventLogUnavailable: DATABASES['default'] at 10.1.2.3" in said[0].getMessage()
        assert (await ask("/builds/1/log/range/")).status == 200
        assert (await ask("/builds/1/log/raw/?follow=0")).body == b"x\n"
    (over,) = [record.getMessage() for record in caplog.records if record.name.startswith("django_agent_sse")][1:]
    assert re.fullmatch(r"works again after \d+ failures: the event log cannot be read", over)
    assert int(over.split()[3]) >= 55


async def test_the_text_has_every_line_and_nothing_else() -> None:
    topic = await written()
    await topic.aclose()
    with served(builds()):
        answer = await ask("/builds/1/log/raw/")
    assert answer.body == b"one\ntwo\n<three>\nfour\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (answer.headers["incremental"], answer.headers["x-accel-buffering"]) == ("?1", "no")


async def test_the_text_follows_until_the_topic_is_closed() -> None:
    topic = await written()
    with served(builds(), middleware=[]):
        client = connect("/builds/1/log/raw/")
        await eventually("the lines", lambda: client.raw == b"one\ntwo\n<three>\nfour\n")
        await topic.apublish("five ü", event="stdout")
        await eventually("the next line", lambda: client.raw.endswith("five ü\n".encode()))
        await topic.aclose()
        await client.over()
    assert client.complete


async def test_the_text_until_now() -> None:
    await written()
    await Topic("builds.2").apublish_many([f"line {n}" for n in range(1000)])
    with served(builds()):
        assert (await ask("/builds/1/log/raw/?follow=0")).body == b"one\ntwo\n<three>\nfour\n"
        assert (await ask("/builds/2/log/raw/?follow=0")).body == "".join(f"line {n}\n" for n in range(1000)).encode()
        assert (await ask("/builds/3/log/raw/?follow=0")).body == b""


async def test_a_download_is_a_file_of_the_topics_name() -> None:
    await written()
    with served(builds()):
        answer = await ask("/builds/1/log/raw/?download=1")
    assert answer.headers["content-disposition"] == 'attachment; filename="builds.1.log"'
    assert answer.body.startswith(b"one\n")


@pytest.mark.parametrize("query", ["follow=yes", "download=2"])
async def test_a_flag_is_0_or_1(query: str) -> None:
    with served(builds()):
        answer = await ask(f"/builds/1/log/raw/?{query}")
    assert (answer.status, "neither 0 nor 1" in answer.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    ("part", "kind"), [("range/", "application/json"), ("raw/", "text/plain; charset=utf-8"), ("", "text/event-stream")]
)
async def test_head_tells_the_kind_of_each(part: str, kind: str) -> None:
    with served(builds()):
        answer = await ask(f"/builds/1/log/{part}", method="HEAD")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, b"")
    assert answer.headers["incremental"] == "?1"


@pytest.mark.parametrize("part", ["", "range/", "raw/"])
async def test_all_stand_behind_the_same_guards(part: str) -> None:
    await written()
    with served(builds(guards=[login_required])):
        assert (await ask(f"/builds/1/log/{part}")).status == 401
        assert (await ask(f"/builds/1/log/{part}", method="POST")).status == 405


async def test_a_function_that_needs_no_login_opens_all_three_where_the_project_wants_one() -> None:
    async def inner(c: Context) -> str:
        return "builds.1"

    @login_not_required
    async def public(c: Context) -> str:
        return "builds.1"

    router = Router()
    router.log("inner/", inner, name="inner")
    router.log("public/", public, name="public")
    await (await written()).aclose()
    sessions, auth = "django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware"
    chain = [sessions, f"{auth}.AuthenticationMiddleware", f"{auth}.LoginRequiredMiddleware"]
    with served(router, middleware=chain):
        for part in ("", "range/", "raw/"):
            assert (await ask(f"/inner/{part}")).status == 401
            assert (await ask(f"/public/{part}")).status == 200


async def test_a_function_names_the_topic_and_may_refuse() -> None:
    async def topic_of(c: Context, number: int) -> str:
        if number == 404:
            raise Http404("no such build")
        if number == 403:
            raise PermissionDenied
        return f"builds.{number - 1}"

    router = Router()
    router.log("builds/<int:number>/", topic_of)
    await written()
    with served(router):
        assert (await ask("/builds/2/raw/?follow=0")).body.startswith(b"one\n")
        assert [one["offset"] for one in (await ask("/builds/2/range/")).json()["records"]] == [1, 2, 3, 4]
        for part in ("", "raw/", "range/"):
            assert (await ask(f"/builds/404/{part}")).status == 404
            assert (await ask(f"/builds/403/{part}")).status == 403


def test_each_has_a_name_and_stands_below_the_stream() -> None:
    with served(builds()):
        assert [reverse(name, args=["1"]) for name in ("build-log", "build-log-range", "build-log-raw")] == [
            "/builds/1/log/",
            "/builds/1/log/range/",
            "/builds/1/log/raw/",
        ]
    assert [part_of_log(path, "raw") for path in ("log", "log/", "/log", "", "/")] == [
        "log/raw/",
        "log/raw/",
        "/log/raw/",
        "raw/",
        "raw/",
    ]


@pytest.mark.parametrize("topic", [42, "", "builds.{", lambda c: "builds.1"])
def test_what_names_no_topic_is_refused_at_import(topic: Any) -> None:
    with pytest.raises((RouteError, TypeError)):
        Router().log("log/", topic)


def test_an_option_that_does_not_exist_is_refused_at_import() -> None:
    with pytest.raises(RouteError, match="hartbeat"):
        Router().log("log/", "builds.1", hartbeat=1)


async def test_a_value_of_the_url_reaches_no_other_topic() -> None:
    await written("builds.1.secret")
    router = Router()
    router.log("<path:id>/log/", "builds.{id}")
    with served(router):
        for part in ("", "raw/", "range/"):
            assert (await ask(f"/1.secret/log/{part}")).status == 404
