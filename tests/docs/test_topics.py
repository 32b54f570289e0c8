"""The page about topics: what it prints is what a client gets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_agent_sse import Event, Topic
from django_agent_sse.eventlog import backend
from django_agent_sse.exceptions import LeaseHeld
from tests.site import settings as site

from . import asking, pages
from .blocks import DOCS, blocks_of
from .middleware import ACTS_AS_STAFF

PAGE = DOCS / "topics" / "topics.rst"


@pytest.fixture(autouse=True)
def project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = pages.URLCONF
    settings.MIDDLEWARE = [*site.MIDDLEWARE_SETS["default"], "tests.docs.middleware.acting"]
    backend.reset()
    yield
    backend.reset()


@pytest.mark.django_db(transaction=True)
async def test_a_build_reads_as_the_page_says() -> None:
    (shown,) = [block.text for block in blocks_of(PAGE) if "event: step" in block.text]
    with pages.imported(PAGE):
        assert (await asking.ask("GET", "/builds/42/run/", headers=ACTS_AS_STAFF)).status == 405, "nobody starts it by looking"
        token = {"cookie": f"csrftoken={'a' * 32}", "x-csrftoken": "a" * 32}
        assert (await asking.ask("POST", "/builds/42/run/", headers={**ACTS_AS_STAFF, **token})).status == 204
        got = await asking.ask("GET", "/builds/42/logs/", headers={**ACTS_AS_STAFF, "Accept": "text/event-stream"})
    body = re.sub(r"[A-Za-z]{8}\.(\d)", r"kQzTbWpa.\1", got.body).removeprefix(":\n")
    assert body.strip() == shown.strip()


def test_an_answer_is_read_as_the_page_says() -> None:
    with pages.imported(PAGE) as modules:
        topic = Topic("answers.7")
        topic.publish_many([Event(word, event="token") for word in ("You ", "asked: ", "why")])
        topic.close("finished", last=[Event("{}", event="done")])
        answers = modules["mysite/answers.py"]
        assert answers.text_so_far("answers.7") == "You asked: why"

        async def words() -> list[str]:
            return [word async for word in answers.words("answers.7")]

        assert async_to_sync(words)() == ["You ", "asked: ", "why", "{}"]


def test_runs_end_as_the_page_says() -> None:
    with pages.imported(PAGE) as modules:
        runs, log = modules["mysite/runs.py"], backend.event_log()
        assert runs.write_report("reports.7", ["one", "two"]) == "finished"
        assert [event.data for event in Topic("reports.7").read()] == ["one", "two", '{"ended":"finished"}']
        assert log.state("reports.7").closed == "finished"

        async def tokens() -> AsyncIterator[str]:
            yield "You "
            yield "asked."

        async_to_sync(runs.answer)("answers.8", "chat.1", tokens())
        assert [(event.event, event.data) for event in Topic("answers.8").read()] == [("token", "You "), ("token", "asked.")]
        assert (log.state("answers.8").closed, log.pointer("chat.1")) == ("finished", "answers.8")


def test_a_lease_is_held_as_the_page_says() -> None:
    with pages.imported(PAGE) as modules:
        work, log = modules["mysite/leases.py"].work, backend.event_log()
        assert work("jobs.1", "me")
        state = log.state("jobs.1")
        assert ([event.data for event in Topic("jobs.1").read()], state.closed) == (["one", "two", "three", "Done."], "finished")
        log.acquire("jobs.2", "me", 30)
        log.request_stop("jobs.2", "me")
        assert work("jobs.2", "me")
        assert (log.state("jobs.2").top, log.state("jobs.2").closed) == (0, "stopped")
        log.acquire("jobs.3", "other", 30)
        with pytest.raises(LeaseHeld):
            work("jobs.3", "me")
