"""Access over time across three processes: eleven ways to lose it, and private topics whose readers change all the time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.access.changes import CHANGES, REFUSED
from tests.ledger.logs import environment_of
from tests.timing import LONG, bound

from .readers import PROCESSES, Reader, Site, put_to_sleep, three_servers

LOGS = ("sqlite", "postgres", "redis") if LONG else ("sqlite",)
STREAMS = 10 if LONG else PROCESSES
"""Streams of each of 20 users."""
WITHIN = bound(5.0, 40.0)
"""Seconds in which the streams end of who may no longer have them."""
EVENTS = 100_000 if LONG else 2_000
CHANGES_OF_RIGHTS = 250 if LONG else 20
"""Meanwhile, at least."""
ASLEEP = 30.0 if LONG else 1.0
"""Seconds for which a process is stopped."""
AGENT_SSE = {"CAN_FOLLOW": "tests.site.routes.access.can_follow"}


@pytest.fixture(scope="module", params=LOGS)
def site(request: pytest.FixtureRequest, terminable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = Path(tmp_path_factory.mktemp("access"))
    environment = environment_of(request.param, request, directory) | {"SITE_MIDDLEWARE": "default"}
    environment["SITE_AGENT_SSE"] = json.dumps({**json.loads(environment["SITE_AGENT_SSE"]), **AGENT_SSE})
    with three_servers(directory, environment) as made:
        yield made


def test_whose_access_ends_in_one_process_has_no_stream_left_in_any(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    victims = {f"{number} {change}": change for number, change in enumerate(CHANGES)}
    about = {
        name: {**CHANGES[change][1], **({"group": name} if "group" in CHANGES[change][1] else {})}
        for name, change in victims.items()
    }
    others = {f"other {number}": {"is_staff": True, "group": "others"} for number in range(20 - len(victims))}
    sessions = site.people(about | others)
    routes = {name: CHANGES[change][0] for name, change in victims.items()} | dict.fromkeys(others, "permitted")
    readers = [
        Reader(site.servers[number % PROCESSES], f"access/{routes[name]}/", name, sessions[name])
        for name in routes
        for number in range(STREAMS)
    ]
    anonymous = [Reader(server, "access/public/", "", "") for server in site.servers]
    site.readers.open(*readers, *anonymous)
    site.readers.until("all are open", lambda: all(reader.events for reader in site.readers.all))
    seconds: dict[str, float] = {}
    for number, (name, change) in enumerate(victims.items()):
        mine = [reader for reader in readers if reader.person == name]
        began = time.monotonic()
        site.ask(f"access/change/{quote(name)}/", number, session=sessions[name], change=change)
        site.readers.until(f"the streams end: {change}", lambda mine=mine: all(reader.ended_at for reader in mine), WITHIN)
        seconds[change] = max(reader.ended_at for reader in mine) - began
        assert {reader.events[-1][1:] for reader in mine} == {("sse.end", '{"reason":"revoked"}')}
        for server in site.servers:
            answer = server.get(
                f"access/{routes[name]}/", headers={"Cookie": f"sessionid={sessions[name]}", "Accept": "text/event-stream"}
            )
            assert answer.status == REFUSED[routes[name]], change
    site.readers.read(0.1)
    left = [reader for reader in readers if reader.person in others]
    assert all(reader.open for reader in [*left, *anonymous])
    site.ask("access/close/", route="access/public/")
    site.readers.until("all public ones end", lambda: all(reader.ended_at for reader in anonymous), WITHIN)
    assert all(reader.open for reader in left)
    site.ask("access/close/", 1, session=sessions["other 0"])
    first = [reader for reader in left if reader.person == "other 0"]
    site.readers.until("those of a session end", lambda: all(reader.ended_at for reader in first), WITHIN)
    assert all(reader.open for reader in left if reader not in first)
    with capsys.disabled():
        if LONG:
            print(f"\n{len(readers)} streams of 20 users in {PROCESSES} processes: seconds until the last of them ended")
            for change, took in seconds.items():
                print(f"  {change:32} {took:.2f}")


def test_a_process_that_was_asleep_when_it_was_ordered_ends_the_streams_when_it_wakes(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """``SIGSTOP``, as of a virtual machine that is moved; the guards are not due before that."""
    names = ["sleeper", "other sleeper"]
    sessions = site.people({name: {} for name in names})
    asleep, awake = site.servers[1], site.servers[0]
    readers = [Reader(server, "access/signed-in/", name, sessions[name]) for name in names for server in site.servers]
    site.readers.open(*readers)
    site.readers.until("all are open", lambda: all(reader.events for reader in readers))
    mine = [reader for reader in readers if reader.person == names[0]]
    put_to_sleep(asleep)
    try:
        site.ask(f"access/change/{quote(names[0])}/", session=sessions[names[0]], change="signs out")
        site.readers.until("those of the others end", lambda: all(one.ended_at for one in mine if one.server is not asleep))
        site.readers.hear(ASLEEP)
        assert [one.server for one in mine if one.open] == [asleep]
    finally:
        os.kill(asleep.process.pid, signal.SIGCONT)
    woken = time.monotonic()
    site.readers.until("its streams end", lambda: all(reader.ended_at for reader in mine), WITHIN)
    took = max(reader.ended_at for reader in mine) - woken
    for server in (asleep, awake):
        headers = {"Cookie": f"sessionid={sessions[names[0]]}", "Accept": "text/event-stream"}
        assert server.get("access/signed-in/", headers=headers).status == 401
    assert all(reader.open for reader in readers if reader not in mine)
    with capsys.disabled():
        if LONG:
            print(f"\na process that slept {ASLEEP:.0f} s: its stream ends {took:.2f} s after it wakes")


def test_private_events_reach_nobody_who_may_not_have_them(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Rights come and go all the time; whoever is refused or revoked comes back and asks again."""
    topics, people = [f"t{number}" for number in range(5)], [f"reader {number}" for number in range(10)]
    sessions = site.people({name: {} for name in people})
    may: dict[tuple[str, str], bool] = {}
    times: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    """When somebody had a right: from before it was given until after it was taken."""

    def grant(name: str, changes: dict[str, bool], server: int) -> None:
        began = time.monotonic()
        site.ask(f"access/grant/{quote(name)}/", server, topics=json.dumps(changes))
        now = time.monotonic()
        for topic, given in changes.items():
            known = times[name, topic]
            if given and not may.get((name, topic)):
                known.append((began, float("inf")))
            elif not given and may.get((name, topic)):
                known[-1] = known[-1][0], now
            may[name, topic] = given

    for number, name in enumerate(people):
        grant(name, {topic: (number + index) % 2 == 0 for index, topic in enumerate(topics)}, number)
    readers = [
        Reader(site.servers[(index + place) % PROCESSES], f"access/private/{topic}/", name, sessions[name], returns=True)
        for index, name in enumerate(people)
        for place, topic in enumerate(topics)
    ]
    site.readers.open(*readers)
    site.readers.until("each has its answer", lambda: all(reader.status or reader.refused for reader in readers))
    counted = changed = 0
    random.seed(7)
    deadline = time.monotonic() + (1200 if LONG else 300)
    while counted < EVENTS or changed < CHANGES_OF_RIGHTS:
        assert time.monotonic() < deadline, f"{counted} events"
        name = random.choice(people)
        grant(name, {topic: not may[name, topic] for topic in random.sample(topics, 2)}, changed)
        changed += 1
        for topic in topics:
            site.ask(f"access/tell/{topic}/", changed, count=max(1, EVENTS // CHANGES_OF_RIGHTS // 25))
        for _ in range(5):
            site.readers.read(0.02)
        counted = sum(1 for reader in readers for _, name, _ in reader.events if name == "message")
    wrong = late = 0.0
    for reader in readers:
        topic = reader.path.split("/")[-2]
        for at, kind, data in reader.events:
            if kind != "message":
                continue
            assert json.loads(data)["topic"] == topic
            spans = times[reader.person, topic]
            allowed = any(since <= at <= until for since, until in spans)
            if not allowed:
                late = max(late, min((at - until for _, until in spans if until <= at), default=float("inf")))
                wrong += not any(since <= at <= until + WITHIN for since, until in spans)
    assert wrong == 0
    refused = [status for reader in readers for status in reader.refused]
    assert {*refused} <= {403}
    assert refused
    assert any(kind == "sse.end" and "revoked" in data for reader in readers for _, kind, data in reader.events)
    # Nobody who may have them goes without: the last word stands.
    site.readers.until(
        "who may is there, and who may not is not",
        lambda: all(reader.open == may[reader.person, reader.path.split("/")[-2]] for reader in readers),
    )
    with capsys.disabled():
        if LONG:
            print(
                f"\n{counted:,} private events under {changed} changes of rights: none to a wrong user; the latest {late:.2f} s"
            )
