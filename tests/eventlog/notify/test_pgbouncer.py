"""PostgreSQL behind a real pgbouncer: where it lends connections by session, notifications come in; by transaction, none do."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.eventlog.notify import postgresql
from django_agent_sse.wire.event import Event
from tests.inprocess import eventually
from tests.log_databases import database
from tests.services import free_port

from ..processes import PATIENCE
from .test_databases import Make, entry_of, postgres, process, said, slow_poll

__all__ = ["postgres", "process", "slow_poll"]


@contextlib.contextmanager
def pgbouncer(home: Path, server: str, mode: str) -> Iterator[int]:
    """Run one in front of the server whose socket is in this directory; yield its port."""
    port = free_port()
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server} user=postgres\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\nlogfile =\npidfile =\n"
    )
    (home / "pgbouncer.ini").chmod(0o644)
    as_user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}  # it refuses to run as root
    with (home / "pgbouncer.ini").open() as config:
        command = ["pgbouncer", "-q", "/dev/stdin"]
        child = subprocess.Popen(command, stdin=config, stderr=subprocess.DEVNULL, cwd="/", **as_user)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert child.poll() is None, "pgbouncer does not start"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        child.terminate()
        child.wait(PATIENCE)


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, postgres: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The mode, and the alias of the same database through it; as ``postgres``, its alias without it."""
    entry: dict[str, Any] = entry_of(postgres)
    with pgbouncer(tmp_path, entry["HOST"], request.param) as port:
        through = {**entry, "HOST": "127.0.0.1", "PORT": str(port)}
        with database(f"through-pgbouncer-{request.param}", through, migrate=False) as alias:
            yield request.param, alias


async def test_a_pooler_that_passes_no_notifications_on_is_found_out_and_left_to_the_poll(
    pooled: tuple[str, str],
    postgres: str,
    process: Make,
    slow_poll: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mode, alias = pooled
    if mode == "transaction":
        monkeypatch.setattr(postgresql, "SELF_TEST_TIMEOUT", 5.0)  # it runs out
    direct, there, here = process(postgres), process(alias), process(alias)
    direct.follow("a")
    here.follow("a")
    await there.log.aappend("a", Event("1"))
    await direct.told("a", 1)
    if mode == "session":
        await here.told("a", 1)
        assert here.notifier.troubles() == {}
        assert said(caplog) == []
        return
    await eventually("it is said", lambda: said(caplog), PATIENCE)
    assert [*here.notifier.troubles()] == ["database_notifications"]
    assert here.notifier.troubles()["database_notifications"].endswith(f"DATABASES[{alias!r}]: NotificationsNotHeard")
    (text,) = said(caplog)
    assert "pool_mode = transaction" in text
    assert "['NOTIFY_ALIAS']" in text
    assert there.notifier.troubles() == {}, "what only sends needs no session"
    going_past = process(alias, NOTIFY_ALIAS=postgres)
    assert isinstance(going_past.log, DatabaseEventLog)
    going_past.follow("a")
    await there.log.aappend("a", Event("2"))
    await going_past.told("a", 2)
    assert here.tops["a"] < 2
