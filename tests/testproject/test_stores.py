"""The project on a real PostgreSQL and a real server that speaks Redis, where it is on SQLite and local memory elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import redis
from playwright.sync_api import expect

from tests.chromium import launched
from tests.live.servers import poll
from tests.services import running_postgres, running_redis

from .recipe import HALF, MANY
from .server import Server, environment, migrate, number_of, numbered, outcome

PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, str]]:
    """The environment that names both servers."""
    with running_postgres() as postgres, running_redis() as its_redis:
        yield {"DATABASE_URL": postgres, "REDIS_URL": its_redis}


@pytest.fixture(scope="module")
def server(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = Path(tmp_path_factory.mktemp("stores"))
    migrate({**environment(folder), **stores})
    server = Server("uvicorn", folder, **stores)
    yield server
    server.stop()


def test_builds_and_their_logs_are_in_postgresql(server: Server, stores: dict[str, str]) -> None:
    build = server.finish("many")
    with psycopg.connect(stores["DATABASE_URL"]) as connection:
        row = connection.execute("SELECT status, lines, exit_code FROM builds_build WHERE id = %s", [build]).fetchone()
        top = connection.execute("SELECT top FROM django_agent_sse_logtopic WHERE name = %s", [f"builds.{build}"]).fetchone()
    assert row == ("passed", MANY, 0)
    assert top == (MANY + 1,), "the lines and the exit"
    assert not (server.state / "db.sqlite3").exists()


def test_a_log_outlives_the_server(server: Server, stores: dict[str, str], tmp_path: Path) -> None:
    build = server.finish("many")
    heir = Server("daphne", tmp_path, **stores)
    try:
        assert len(numbered(heir.whole_log(build))) == MANY
    finally:
        heir.stop()


def test_a_build_is_started_watched_cancelled_and_deleted(server: Server, stores: dict[str, str]) -> None:
    build = server.start("gated")
    with server.watch(build) as client:
        assert [number_of(client.next()) for _ in range(HALF)] == list(range(1, HALF + 1))
        server.post(f"/builds/{build}/cancel/")
        assert outcome(client.own_events())["status"] == "cancelled"
    server.post(f"/admin/builds/build/{build}/delete/", post="yes")
    with psycopg.connect(stores["DATABASE_URL"]) as connection:
        found = connection.execute("SELECT top FROM django_agent_sse_logtopic WHERE name = %s", [f"builds.{build}"]).fetchone()
    assert found is None


def test_what_an_agent_says_is_in_postgresql_and_what_it_remembers_in_redis(server: Server, stores: dict[str, str]) -> None:
    with server.client() as client:
        headers = {"X-CSRFToken": client.cookies["csrftoken"]}
        answer = client.post("/chat/run/", json={"question": "Remember that it is late"}, headers=headers)
    assert "event: run.end" in answer.text
    said = (answer.headers["X-Run-Id"], "I shall. Ask me *what I remember*.", "finished")
    with psycopg.connect(stores["DATABASE_URL"], autocommit=True) as connection:
        saved = partial(connection.execute, "SELECT run, answer, ending FROM builds_exchange")
        poll("it is saved once it has ended", lambda: saved().fetchone() == said)
    with redis.Redis.from_url(stores["REDIS_URL"]) as cache:
        assert [key for key in cache.scan_iter() if b":chat:" in key]


def test_the_pages_in_a_browser(server: Server) -> None:
    with launched() as browser, browser.new_context() as context:
        server.sign_in(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        page.locator("button[value=gated]").click()
        expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines", timeout=PATIENCE_MS)
        build = int(page.url.rstrip("/").rpartition("/")[2])
        for gate in ("half", "end"):
            server.open_gate(build, gate)
        expect(page.locator(".sl-status")).to_have_text("Passed", timeout=PATIENCE_MS)
        page.goto(f"{server.url}/admin/builds/build/")
        state = page.locator(f'[data-build="{build}"] [data-slot="status"]')
        expect(state).to_have_text("passed", timeout=PATIENCE_MS)
