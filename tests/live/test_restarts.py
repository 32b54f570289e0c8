"""Orders about access while the server of the event log restarts: refused to whoever gives them, or executed in every process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.ledger.logs import DATABASE
from tests.services import Postgres, postgres
from tests.timing import LONG, bound
from tests.valkeys import Valkey, valkey

from .conftest import seed
from .readers import Reader, Site, put_to_sleep, three_servers
from .servers import poll

WITHIN = bound(5.0, 40.0)
"""Seconds after the server is back in which streams end. Nothing else would end them: guards are asked again in an hour."""
OUTAGE = 20.0 if LONG else 0.5
"""Seconds for which it is away."""
MOMENTS = "before", "during", "after"
RACING = 40 if LONG else 8
"""Orders that are given one after another while the server stops."""
SITE: dict[str, Any] = {"RECHECK": 3600, "CAN_FOLLOW": "tests.site.routes.access.can_follow"}


@dataclass
class Victims:
    """Who loses their streams around one restart, by what is done to them at which moment; and others, who keep theirs."""

    site: Site
    name: str
    sessions: dict[str, str] = field(default_factory=dict)
    readers: dict[str, list[Reader]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    given: int = 0

    def open(self) -> None:
        names = [f"{self.name} {moment} {what}" for moment in MOMENTS for what in ("closed", "deactivated")]
        names += [f"{self.name} racing {number}" for number in range(RACING)]
        others = [f"{self.name} other {number}" for number in range(2)]
        self.sessions = self.site.people({name: {} for name in [*names, *others]})
        for name in self.sessions:
            mine = [Reader(server, "access/signed-in/", name, self.sessions[name]) for server in self.site.servers]
            self.readers[name] = mine
            self.site.readers.open(*mine)
        everybody = [reader for mine in self.readers.values() for reader in mine]
        self.site.readers.until("all are open", lambda: all(reader.events for reader in everybody))

    def order(self, moment: str) -> None:
        """Give the two orders of a moment to the first process."""
        for what, give in (("closed", self.close), ("deactivated", self.deactivate)):
            name = f"{self.name} {moment} {what}"
            if not give(name):
                self.refused.append(name)

    def race(self) -> None:
        """Give one order after another to the first process, from another thread."""
        names = [f"{self.name} racing {number}" for number in range(RACING)]
        for name in names:
            if not self.close(name):
                self.refused.append(name)
            self.given += 1

    def close(self, name: str) -> bool:
        """Return whether the order was given."""
        answer = self.site.servers[0].get("access/close/", session=self.sessions[name], stay_away=1)
        assert (answer.status, answer.body) in ((200, b""), (503, b"EventLogUnavailable"))
        return answer.status == 200

    def deactivate(self, name: str) -> bool:
        """Return whether the database has taken it; its signal orders the rest."""
        path = f"access/change/{quote(name)}/"
        return self.site.servers[0].get(path, session=self.sessions[name], change="is deactivated").status == 200

    def ends(self, back: float) -> float:
        """Wait until all streams have ended that should have; return how many seconds after the server was back that was."""
        victims = [
            reader for name, mine in self.readers.items() for reader in mine if "other" not in name and name not in self.refused
        ]
        left = lambda: [(reader.person, self.site.servers.index(reader.server)) for reader in victims if not reader.ended_at]  # noqa: E731
        try:
            self.site.readers.until("the streams end", lambda: not left(), max(0.1, back + WITHIN - time.monotonic()))
        except AssertionError as error:
            raise AssertionError(f"left: {left()}") from error
        assert {reader.events[-1][1:] for reader in victims} == {("sse.end", '{"reason":"revoked"}')}
        for reader in victims:
            assert self.returns(reader) == (401 if "deactivated" in reader.person else 204), reader.person
        return max(reader.ended_at for reader in victims) - back

    def returns(self, reader: Reader) -> int:
        """What becomes of a client that resumes."""
        headers = {"Cookie": f"sessionid={reader.session}", "Accept": "text/event-stream", "Last-Event-ID": reader.last_id}
        return reader.server.get(reader.path, headers=headers).status


def restart(site: Site, name: str, stop: Any, start: Any) -> None:
    """Order before, during and after a restart; the others are asleep before it, so that none of them has read anything."""
    victims = Victims(site, name)
    victims.open()
    asleep = site.servers[1:]
    for server in asleep:
        put_to_sleep(server)
    try:
        victims.order("before")
        assert not victims.refused
        with ThreadPoolExecutor(1) as pool:
            race = pool.submit(victims.race)
            poll("some are taken", lambda: victims.given >= RACING // 4)
            stop()
        race.result()
    finally:
        for server in asleep:
            os.kill(server.process.pid, signal.SIGCONT)
    victims.order("during")
    assert f"{name} during closed" in victims.refused
    site.readers.hear(OUTAGE)
    start()
    back = time.monotonic()
    victims.order("after")
    if (late := f"{name} after closed") in victims.refused:  # a server that was away a moment ago is not asked at once
        site.readers.until("orders are taken again", lambda: victims.close(late), WITHIN)
        victims.refused.remove(late)
    took = victims.ends(back)
    if LONG:
        taken = RACING - sum("racing" in person for person in victims.refused)
        print(f"\n{name}: {taken} of {RACING} orders taken while it ended; all streams ended {took:.2f} s after it was back")
    # What was refused can be ordered again, of any process; and nobody else has lost anything.
    for person in (*victims.refused, f"{name} other 0"):
        mine = victims.readers[person]
        site.ask("access/close/", 1, session=victims.sessions[person])
        site.readers.until(f"they end: {person}", lambda mine=mine: all(reader.ended_at for reader in mine), WITHIN)
    assert all(reader.open for reader in victims.readers[f"{name} other 1"])


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Valkey]:
    with valkey(appendonly="yes") as server:
        yield server


@pytest.fixture(scope="module")
def over_redis(redis_server: Valkey, terminable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = Path(tmp_path_factory.mktemp("redis"))
    database = str(directory / "site.sqlite3")
    seed(database)
    log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": redis_server.url}}
    with three_servers(directory, _environment(database, {"EVENT_LOG": log})) as site:
        yield site


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def over_postgres(postgres_server: Postgres, terminable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    seed(postgres_server.url)
    with three_servers(Path(tmp_path_factory.mktemp("postgres")), _environment(postgres_server.url, DATABASE)) as site:
        yield site


def _environment(database: str, agent_sse: dict[str, Any]) -> dict[str, str]:
    return {"SITE_DATABASE": database, "SITE_MIDDLEWARE": "default", "SITE_AGENT_SSE": json.dumps({**SITE, **agent_sse})}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "crash"])
def test_redis_that_keeps_its_data_loses_no_order(over_redis: Site, redis_server: Valkey, number: int) -> None:
    restart(over_redis, f"redis-{number}", lambda: redis_server.end(number), redis_server.start)


def test_redis_that_comes_back_empty_loses_no_order(over_redis: Site, redis_server: Valkey) -> None:
    def stop() -> None:
        redis_server.kill()
        redis_server.empty()

    restart(over_redis, "redis-empty", stop, redis_server.start)


def test_redis_that_comes_back_as_it_was_a_while_ago_loses_no_order(over_redis: Site, redis_server: Valkey) -> None:
    """As from a snapshot: new orders take the offsets of those that every process has read."""
    then, now = redis_server.home / "then", redis_server.home / "appendonlydir"
    shutil.copytree(now, then)
    for number in range(12):
        over_redis.ask("access/close/", session=f"of nobody {number}")
    over_redis.readers.hear(0.5)

    def stop() -> None:
        redis_server.kill()
        shutil.rmtree(now)
        then.rename(now)

    restart(over_redis, "redis-then", stop, redis_server.start)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "crash"])
def test_postgresql_loses_no_order(over_postgres: Site, postgres_server: Postgres, number: int) -> None:
    restart(over_postgres, f"postgres-{number}", lambda: postgres_server.end(number), postgres_server.start)
