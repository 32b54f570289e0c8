"""Staff ends streams of any process in under a second, over every log that crosses processes; who was sent away stays away."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import statistics
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.ledger.logs import LOGS
from tests.live.client import Client, EndOfStreamError
from tests.live.servers import poll
from tests.timing import bound

from .clustered import PATIENCE, Cluster, running_cluster

SOON = bound(1.0, 60.0)
"""Seconds within which a stream of another process is over: the promise, and what a machine with much else to do may take."""
TRIES = 6


@pytest.fixture(scope="module", params=LOGS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers, with sessions."""
    with running_cluster(request.param, request, tmp_path_factory.mktemp("site"), SITE_MIDDLEWARE="default") as one:
        yield one


@pytest.fixture(autouse=True)
def nobody_stays(site: Cluster) -> Iterator[None]:
    question = secrets.token_hex(4)  # orders are executed in turn: who answers has executed all those of the test before
    poll("all orders are executed", lambda: not site.board(rows=1, text=question)["missing"], within=PATIENCE, every=0.1)
    site.since = time.time()
    yield
    for client in site.clients:
        client.close()
    site.clients.clear()


def rows(site: Cluster, **query: Any) -> list[dict[str, Any]]:
    """All rows, once every process has answered."""

    last: dict[str, Any] = {}

    def answered() -> dict[str, Any] | None:
        seen = site.board(rows=1, **query)
        last.update(seen)
        whole = not seen["missing"] and len(seen["rows"]) == seen["matched"] == len(site.clients)
        return seen if whole and all(row["opened"] >= site.since - 0.1 for row in seen["rows"]) else None

    try:
        found: list[dict[str, Any]] = poll("all rows are there", answered, within=PATIENCE, every=0.1)["rows"]
    except AssertionError as error:
        raise AssertionError(f"{len(site.clients)} clients, {last}\n{site.log_file.read_text()[-3000:]}") from error
    return found


def ends_within(clients: list[Client], seconds: float) -> tuple[float, list[Any]]:
    """After how long the last of them is over, and the last event of each."""
    began = time.monotonic()
    last = [client.rest(SOON + 5)[-1] for client in clients]
    took = time.monotonic() - began
    assert took < seconds, f"{took:.2f} s"
    return took, last


def test_one_stream_of_another_process_is_over_within_a_second_and_its_client_stays_away(site: Cluster) -> None:
    site.open(count=12)
    took, away = [], 0
    for _ in range(TRIES):
        victim = rows(site)[0]["id"]
        before = time.monotonic()
        site.ask("_command/", stream=victim)
        (ended,) = poll("one is over", lambda: [client for client in site.clients if over(client)], within=SOON + 5, every=0.005)
        took.append(time.monotonic() - before)
        (end,) = ended.events[1:]
        assert (end.name, end.data) == ("sse.end", '{"reason":"kicked"}')
        again = Client(f"{site.url}/life/idle/", headers={"Last-Event-ID": end.id})
        away += again.head()[0] == 204
        again.close()
        site.clients.remove(ended)
        assert len(rows(site)) == len(site.clients)
    print(f"\nclosing one of three processes' streams: median {statistics.median(took):.3f} s, worst {max(took):.3f} s")
    assert max(took) < SOON
    assert away == TRIES, "an EventSource that comes back gets 204"


def over(client: Client) -> bool:
    """Whether the end has come by now."""
    with contextlib.suppress(TimeoutError, EndOfStreamError):
        client.next(0.001)
    return bool(client.events) and client.events[-1].name == "sse.end"


def test_all_streams_of_a_user_in_every_process_are_over_and_nobody_elses(site: Cluster) -> None:
    key, pk = session_of(site)
    cookie = {"Cookie": f"sessionid={key}"}
    mine, others, found = site.open(count=3, headers=cookie), site.open(count=6), rows(site)
    while len({row["process"] for row in found if row["user"]}) == 1:  # the system says which of the workers gets them
        assert len(mine) < 60, "one worker got all of them"
        mine += site.open(count=3, headers=cookie)
        found = rows(site)
    assert sorted({row["user"] for row in found}) == ["", str(pk)]
    site.ask("_command/", user=pk)
    took, last = ends_within(mine, SOON)
    assert {event.name for event in last} == {"sse.end"}
    for event in (last[0], last[-1]):
        with Client(f"{site.url}/life/idle/", headers={**cookie, "Last-Event-ID": event.id}) as again:
            assert again.head()[0] == 204, "it stays away"
    assert not [client for client in others if over(client)]
    print(f"\n{len(mine)} streams of a user in several processes were over after {took:.3f} s")
    site.clients = others


def test_all_streams_of_a_route_are_told_when_to_come_back_each_at_another_time(site: Cluster) -> None:
    site.open(count=9)
    others = site.open("life/waits/", count=3)
    rows(site)
    site.ask("_command/", route="life/idle/", retry=20_000)
    took, last = ends_within([client for client in site.clients if client not in others], SOON)
    retries = [client.parser.retry or 0 for client in site.clients if client not in others]
    assert all(event.name == "sse.end" and not event.id for event in last), "without the end id, so that it may come back"
    assert all(10_000 <= retry <= 30_000 for retry in retries)
    assert len({*retries}) > 3
    assert not [client for client in others if over(client)]
    print(f"\n9 streams of a route were over after {took:.3f} s")
    site.clients = others


def test_a_drained_process_ends_its_streams_and_takes_none_until_it_is_told_to(site: Cluster) -> None:
    site.open(count=15)
    found = rows(site)
    process = found[0]["process"]
    drained = [row for row in found if row["process"] == process]
    before = time.monotonic()
    site.ask("_command/", do="drain", process=process, retry=5_000)
    seen: list[int] = []

    def all_over() -> bool:
        seen[:] = [len([one for one in site.clients if over(one)]), len(drained)]
        return seen[0] == seen[1]

    with contextlib.suppress(AssertionError):
        poll("they are over", all_over, within=SOON + 5, every=0.01)
    took = time.monotonic() - before
    assert all_over(), (seen, found, site.log_file.read_text()[-2000:])
    print(f"\n{len(drained)} streams of a drained process were over after {took:.3f} s")
    assert took < SOON
    refused = poll("it refuses", lambda: answer(site) == "sse.overloaded", within=PATIENCE, every=0.01)
    assert refused
    site.ask("_command/", do="drain", process=process, on=0)
    poll("all take streams again", lambda: {answer(site) for _ in range(12)} == {""}, within=PATIENCE, every=0.2)
    site.clients = []


def answer(site: Cluster) -> str:
    """The name of the first event of a new stream."""
    with Client(f"{site.url}/life/idle/") as client:
        first = client.next()
        return first.name if first.name != "message" else ""


def session_of(site: Cluster) -> tuple[str, int]:
    """A session of ``user-000``, from the site's own database."""
    database = site.database
    with contextlib.closing(
        psycopg.connect(database) if "://" in database else sqlite3.connect(database, timeout=60)
    ) as connection:
        key = connection.execute("SELECT session_key FROM django_session").fetchone()[0]
        pk = connection.execute("SELECT id FROM auth_user WHERE username = 'user-000'").fetchone()[0]
    return key, pk
