"""The pages of topics over two processes: readers of both are counted, and what staff does there reaches them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.live.servers import poll

from .serving import PATIENCE, MonitorSite, running_site

TOPICS = "/admin/django_agent_sse/logtopic/"
READERS = 12


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorSite]:
    with running_site(tmp_path_factory.mktemp("topics"), workers=2) as one:
        yield one


def readers(staff: httpx.Client, topic: str) -> int | None:
    """What the page of all topics says."""
    row = re.search(
        rf"logtopic/{topic}/change/.*?data-label=\"Readers\"[^>]*><span[^>]*>([^<]+)<", staff.get(TOPICS).text, re.DOTALL
    )
    return int(row[1]) if row and row[1] != "–" else None


def do(staff: httpx.Client, topic: str, verb: str, **data: str) -> httpx.Response:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', staff.get(f"{TOPICS}{topic}/change/").text)
    assert token
    return staff.post(
        f"{TOPICS}{topic}/do/{verb}/",
        data={**data, "csrfmiddlewaretoken": token[1], "confirmed": "1"},
        headers={"Referer": str(staff.base_url)},
    )


def test_readers_of_both_processes_are_counted_and_an_event_and_the_end_reach_them(site: MonitorSite) -> None:
    site.open("publish/9/")
    followers = site.open("builds/9/log/", READERS)
    with site.signed_in("admin") as staff:
        poll("all are counted", lambda: readers(staff, "builds.9") == READERS, within=PATIENCE, every=0.2)
        told = do(staff, "builds.9", "publish", event="note", text="from staff")
        assert "Published an event (note, 10 characters)" in told.text
        for follower in followers:
            while follower.next(PATIENCE).data != "from staff":
                pass
        do(staff, "builds.9", "close", reason="enough")
        for follower in followers:
            last = follower.rest(PATIENCE)[-1]
            assert (last.name, last.data) == ("sse.end", '{"reason":"topic_closed","closed":"enough"}')
        poll("none is counted", lambda: readers(staff, "builds.9") == 0, within=PATIENCE, every=0.2)
