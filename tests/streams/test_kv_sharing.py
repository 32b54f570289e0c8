"""A cache that each process has of its own is named where it shows: once in the log, and by ``check --deploy``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import Warning, run_checks
from django.test import override_settings

from django_agent_sse import KV, Context, Router, SSEView, Stream
from django_agent_sse.streams import kv
from tests import warm
from tests.records import records_of
from tests.serving import served

BACKENDS = "django.core.cache.backends"
LOCAL, DUMMY, FILES = f"{BACKENDS}.locmem.LocMemCache", f"{BACKENDS}.dummy.DummyCache", f"{BACKENDS}.filebased.FileBasedCache"
STORE = """
import sys
from django.conf import settings
settings.configure(CACHES={"default": {"BACKEND": sys.argv[1], "LOCATION": sys.argv[2]}})
from django.core.cache import caches
from django_agent_sse import KV
caches["default"].set(KV.cache_key("jobs", "42"), "done", 60)
"""


class OwnLocal(LocMemCache):
    """A project's own cache, on local memory."""


OWN = f"{__name__}.OwnLocal"


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv, "_noted", set())


def stored_elsewhere(settings: Any, backend: str, folder: Path) -> None:
    """Store a value as a task's worker does: in the project's cache, from another process."""
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(folder)}}
    warm.run([sys.executable, "-m", "tests.program", STORE, backend, str(folder)], cwd=warm.ROOT, check=True, timeout=300)


@pytest.mark.parametrize("backend", [LOCAL, DUMMY, OWN])
async def test_a_value_that_another_process_stored_is_not_there_and_the_log_says_why_once(
    backend: str, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if backend == OWN:
        settings.CACHES = {"default": {"BACKEND": backend}}
    else:
        stored_elsewhere(settings, backend, tmp_path)
    with caplog.at_level(logging.INFO, "django_agent_sse.kv"):
        assert not (await KV("default").get("jobs", "42")).exists
        assert await KV("default").get_many("jobs", ["42", "43"]) == {}
    (record,) = records_of(caplog)
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(
        "c.kv has no such key in 'jobs', and would not see it if a task, a command or another worker"
    )
    assert f"CACHES['default'] is {backend.rpartition('.')[2]}, which each process has of its own" in record.getMessage()


async def test_a_cache_that_processes_share_has_it_and_nothing_is_said(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored_elsewhere(settings, FILES, tmp_path)
    with caplog.at_level(logging.INFO, "django_agent_sse.kv"):
        assert (await KV("default").get("jobs", "42")).data == "done"
        assert not (await KV("default").get("jobs", "43")).exists
    assert records_of(caplog) == []


async def test_one_process_that_finds_what_it_stored_is_told_nothing(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CACHES = {"default": {"BACKEND": LOCAL}}
    await KV("default").set("jobs", "42", 1)
    with caplog.at_level(logging.INFO, "django_agent_sse.kv"):
        assert (await KV("default").get("jobs", "42")).data == 1
        assert await KV("default").get_many("jobs", ["42"]) == {"42": 1}
    assert records_of(caplog) == []


# check --deploy


def found(*routes: Any, deploy: bool = True, of_routes: dict[str, Any] | None = None, **settings: Any) -> list[Any]:
    """What the check says about these routes."""
    with override_settings(**settings), served(router_of(*routes, **(of_routes or {}))):
        messages = run_checks(tags=["django_agent_sse"], include_deployment_checks=deploy)
    return [message for message in messages if message.id == "django_agent_sse.W009"]


async def uses_it(c: Context, stream: Stream) -> None:
    await stream.write((await c.kv.get("jobs", "42")).data)


def factory(c: Context) -> Any:
    async def handler(stream: Stream) -> None:
        await c.kv.set("jobs", "42", 1)

    return handler


async def plain(c: Context, stream: Stream) -> None:
    await stream.write("no store here")


async def guard_with_it(c: Context) -> bool:
    return (await c.var.kv.get("keys", "a")).exists


class View(SSEView):
    async def authorize(self, c: Context) -> bool:
        return not (await c.kv.get("banned", str(c.user_pk))).exists

    async def handle(self, c: Context, stream: Stream) -> None:
        await stream.write("in")


def router_of(*routes: Any, **options: Any) -> Router:
    router = Router(**options)
    for number, route in enumerate(routes):
        router.sse(f"{number}/", *(route if isinstance(route, tuple) else (route,)), name=str(number))
    return router


@pytest.mark.parametrize("route", [uses_it, factory, (guard_with_it, plain), View], ids=["direct", "factory", "guard", "class"])
@pytest.mark.parametrize("backend", [LOCAL, DUMMY, OWN])
def test_w009_a_route_that_uses_a_cache_of_each_process(route: Any, backend: str) -> None:
    (message,) = found(plain, route, CACHES={"default": {"BACKEND": backend}})
    assert isinstance(message, Warning)
    assert message.msg.startswith("c.kv of the routes '1/' keeps its values in CACHES['default'], " + backend.rpartition(".")[2])
    assert "publish to a topic" in message.hint


def test_w009_names_three_routes_of_many() -> None:
    (message,) = found(*[uses_it] * 5, CACHES={"default": {"BACKEND": LOCAL}})
    assert "'0/', '1/', '2/' and 2 more keeps" in message.msg


def test_w009_is_silent_where_nothing_uses_it_where_it_is_shared_and_without_deploy(tmp_path: Path) -> None:
    local = {"default": {"BACKEND": LOCAL}, "files": {"BACKEND": FILES, "LOCATION": str(tmp_path)}}
    assert found(plain, CACHES=local) == []
    assert found(uses_it, CACHES=local, AGENT_SSE={"CACHE": "files"}) == []
    assert found(uses_it, of_routes={"cache": "files"}, CACHES=local) == []
    assert found(uses_it, CACHES=local, deploy=False) == []


def test_w009_leaves_a_cache_that_is_not_there_to_e002() -> None:
    """Routes are made before; a setting that names no cache is told by its own check, and nothing breaks."""
    with served(router_of(uses_it)), override_settings(AGENT_SSE={"CACHE": "nowhere"}):
        messages = run_checks(tags=["django_agent_sse"], include_deployment_checks=True)
    assert {message.id for message in messages} & {"django_agent_sse.E002", "django_agent_sse.W009"} == {"django_agent_sse.E002"}


def test_w009_of_a_route_with_a_cache_of_its_own(tmp_path: Path) -> None:
    """The project's is shared; that route's is not."""
    caches_of_project = {"default": {"BACKEND": FILES, "LOCATION": str(tmp_path)}, "own": {"BACKEND": LOCAL}}
    (message,) = found(uses_it, of_routes={"cache": "own"}, CACHES=caches_of_project)
    assert "CACHES['own']" in message.msg
