"""The system checks: each id is raised by what is known not to work, and by nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.checks import CheckMessage, Error, Warning, run_checks
from django.db import connections
from django.test import override_settings

from django_agent_sse import checks

pytestmark = pytest.mark.django_db  # the test database is in memory: W006 is about one in a file
TAG = "django_agent_sse"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
CORE_LAYER = "channels_redis.core.RedisChannelLayer"


def found(**settings: Any) -> dict[str, CheckMessage]:
    """What ``manage.py check`` says about these settings, by id."""
    with override_settings(**settings):
        messages = run_checks(tags=[TAG])
    assert all(message.hint for message in messages), "every message says what to do"
    return {(message.id or "").removeprefix(f"{TAG}."): message for message in messages}


def layer(**config: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": CORE_LAYER, "CONFIG": config}}


def cache(backend: str, **about: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": backend, **about}}


REDIS = {"LOCATION": "redis://127.0.0.1:1"}
DJANGO_REDIS = "django_redis.cache.RedisCache"


def test_a_sound_project_is_told_nothing() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    "given",
    [None, ["HEARTBEAT"], {"HEARTBEET": 1}, {"HEARTBEAT": "15"}, {"ON_DISCONNECT": "stop"}, {"RETRY": 1.5}, {"BUFFER_EVENTS": 0}],
    ids=repr,
)
def test_e001_settings_that_cannot_be_used(given: Any) -> None:
    messages = found(AGENT_SSE=given)
    assert list(messages) == ["E001"]
    assert isinstance(messages["E001"], Error)
    assert "AGENT_SSE" in messages["E001"].msg


def test_e001_names_the_setting_and_the_mend() -> None:
    assert "did you mean 'HEARTBEAT'" in found(AGENT_SSE={"HEARTBEET": 1})["E001"].msg


@pytest.mark.parametrize("alias", ["no-such-cache", None, 1, ["default"]], ids=repr)
def test_e002_a_cache_that_is_not_defined(alias: Any) -> None:
    messages = found(AGENT_SSE={"CACHE": alias})
    assert list(messages) == ["E002"]
    assert isinstance(messages["E002"], Error)
    assert "default" in str(messages["E002"].hint)


def test_e002_is_silent_for_a_cache_that_is() -> None:
    caches = {"default": {"BACKEND": LOCMEM}, "streams": {"BACKEND": LOCMEM}}
    assert found(AGENT_SSE={"CACHE": "streams"}, CACHES=caches) == {}


@pytest.mark.parametrize("threads", [0, -1, True, "4", 2.5, None], ids=repr)
@pytest.mark.parametrize("name", ["THREADS", "REQUEST_THREADS", "PINNED_THREADS"])
def test_e003_a_number_of_threads_that_is_none(name: str, threads: Any) -> None:
    messages = found(AGENT_SSE={name: threads})
    assert list(messages) == ["E003"]
    assert isinstance(messages["E003"], Error)
    assert f"AGENT_SSE['{name}']" in messages["E003"].msg


async def on_connection_async(connection: Any, c: Any) -> None: ...


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("no.such.function", "cannot be imported"),
        (f"{__name__}.TAG", "not 'tests.test_checks.TAG'"),
        (on_connection_async, "not async"),
        (42, "not 42"),
    ],
)
def test_e007_an_on_connection_that_cannot_be_called(given: Any, says: str) -> None:
    messages = found(AGENT_SSE={"ON_CONNECTION": given})
    assert list(messages) == ["E007"]
    assert isinstance(messages["E007"], Error)
    assert says in messages["E007"].msg


@pytest.mark.parametrize("given", [None, "tests.test_checks.found", lambda connection, c: None])
def test_e007_is_silent_for_a_function(given: Any) -> None:
    assert found(AGENT_SSE={"ON_CONNECTION": given}) == {}


def pooled(monkeypatch: pytest.MonkeyPatch, pool: Any) -> None:
    monkeypatch.setitem(connections.databases, "topics", {**connections.databases["default"], "OPTIONS": {"pool": pool}})


@pytest.mark.parametrize(("pool", "size"), [(True, 4), ({}, None), ({"min_size": 2}, 2), ({"max_size": 15}, 15)])
def test_w009_a_pool_that_streams_could_take_whole(monkeypatch: pytest.MonkeyPatch, pool: Any, size: int | None) -> None:
    pooled(monkeypatch, pool)
    messages = found()
    assert list(messages) == ([] if size is None else ["W009"])
    if size is not None:
        assert isinstance(messages["W009"], Warning)
        assert f"DATABASES['topics'] has a pool of {size} connections" in messages["W009"].msg
        assert "16 at once" in messages["W009"].msg


def test_w009_counts_the_event_logs_own_threads_and_is_silent_for_a_larger_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    pooled(monkeypatch, {"max_size": 6})
    monkeypatch.setattr(checks, "_deferred_transactions", list)
    log = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": "topics"}}
    assert list(found(AGENT_SSE={"THREADS": 3, "EVENT_LOG": log})) == ["W009"]
    assert list(found(AGENT_SSE={"THREADS": 3})) == []
    assert list(found(AGENT_SSE={"THREADS": 2, "EVENT_LOG": log})) == []


@pytest.mark.parametrize("engine", ["django_tenants.postgresql_backend", "tenant_schemas.postgresql_backend"])
def test_w010_an_engine_that_keeps_the_tenant_on_the_connection(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setitem(connections.databases, "topics", {**connections.databases["default"], "ENGINE": engine})
    messages = found()
    assert list(messages) == ["W010"]
    assert isinstance(messages["W010"], Warning)
    assert engine.partition(".")[0] in messages["W010"].msg
    assert found(AGENT_SSE={"ON_CONNECTION": "tests.test_checks.found"}) == {}


def test_w010_an_app_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.apps, "is_installed", lambda name: name == "django_rls")
    assert list(found()) == ["W010"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"BACKEND": "no.such.Log"}, "cannot be imported"),
        ({"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENTS": 0}}, "MAX_EVENTS"),
    ],
)
def test_an_event_log_that_cannot_be_used(given: Any, says: str) -> None:
    messages = found(AGENT_SSE={"EVENT_LOG": given})
    assert list(messages) == ["E005"]
    assert isinstance(messages["E005"], Error)
    assert says in messages["E005"].msg


@pytest.mark.parametrize("threads", [1, 64])
def test_e003_is_silent_for_any_from_one(threads: int) -> None:
    assert found(AGENT_SSE={"THREADS": threads}) == {}


def test_w001_a_project_that_is_set_up_for_wsgi_alone() -> None:
    messages = found(ASGI_APPLICATION=None, WSGI_APPLICATION="shop.wsgi.application")
    assert list(messages) == ["W001"]
    assert isinstance(messages["W001"], Warning)
    assert "daphne" in str(messages["W001"].hint)


@pytest.mark.parametrize(
    ("asgi", "wsgi"), [("shop.asgi.application", "shop.wsgi.application"), ("shop.asgi.application", None), (None, None)]
)
def test_w001_is_silent_with_an_asgi_application_or_no_application_at_all(asgi: str | None, wsgi: str | None) -> None:
    assert found(ASGI_APPLICATION=asgi, WSGI_APPLICATION=wsgi) == {}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hosts": [("localhost", 6379)]},
        {"hosts": ["redis://localhost"]},
        {"hosts": [{"address": "redis://localhost"}]},
        {"hosts": [{"address": "redis://localhost", "socket_timeout": 5}]},
        {"hosts": [{"address": "redis://a", "socket_timeout": None}, "redis://b"]},
    ],
    ids=repr,
)
def test_w002_a_core_layer_under_the_time_out_of_redis_py_8(monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    monkeypatch.setattr(checks, "version", lambda package: "8.0.1")
    messages = found(CHANNEL_LAYERS=layer(**config))
    assert list(messages) == ["W002"]
    assert isinstance(messages["W002"], Warning)
    assert "socket_timeout" in str(messages["W002"].hint)


@pytest.mark.parametrize(
    "config",
    [
        {"hosts": [{"address": "redis://localhost", "socket_timeout": None}]},
        {"hosts": [{"address": "redis://localhost", "socket_timeout": 60}]},
        {"hosts": ["redis://localhost?socket_timeout=60"]},
    ],
    ids=repr,
)
def test_w002_is_silent_where_every_host_waits_longer(monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    monkeypatch.setattr(checks, "version", lambda package: "8.0.1")
    assert found(CHANNEL_LAYERS=layer(**config)) == {}


def test_w002_is_silent_for_other_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "version", lambda package: "8.0.1")
    others = {
        "a": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        "b": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": ["redis://localhost"]}},
    }
    assert found(CHANNEL_LAYERS=others) == {}


@pytest.mark.parametrize("installed", ["7.4.0", "", "unknown"])
def test_w002_is_silent_with_an_older_redis_py(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    monkeypatch.setattr(checks, "version", lambda package: installed)
    assert found(CHANNEL_LAYERS=layer()) == {}


def test_w002_is_silent_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise checks.PackageNotFoundError(package)

    monkeypatch.setattr(checks, "version", missing)
    assert found(CHANNEL_LAYERS=layer()) == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"CACHES": cache(DJANGO_REDIS, **REDIS, OPTIONS={"IGNORE_EXCEPTIONS": True})},
        {"CACHES": cache(DJANGO_REDIS, **REDIS), "DJANGO_REDIS_IGNORE_EXCEPTIONS": True},
    ],
    ids=["option", "setting"],
)
def test_w003_a_redis_cache_that_hides_its_faults(settings: Any) -> None:
    messages = found(**settings)
    assert list(messages) == ["W003"]
    assert isinstance(messages["W003"], Warning)
    assert "IGNORE_EXCEPTIONS" in str(messages["W003"].hint)


@pytest.mark.parametrize(
    "settings",
    [
        {"CACHES": cache(DJANGO_REDIS, **REDIS)},
        {"CACHES": cache(DJANGO_REDIS, **REDIS, OPTIONS={"IGNORE_EXCEPTIONS": False}), "DJANGO_REDIS_IGNORE_EXCEPTIONS": True},
        {"CACHES": cache(LOCMEM), "DJANGO_REDIS_IGNORE_EXCEPTIONS": True},
        {
            "CACHES": {**cache(DJANGO_REDIS, **REDIS, OPTIONS={"IGNORE_EXCEPTIONS": True}), "kv": {"BACKEND": LOCMEM}},
            "AGENT_SSE": {"CACHE": "kv"},
        },
    ],
    ids=["no option", "option off", "another back end", "another alias"],
)
def test_w003_is_silent_where_faults_show(settings: Any) -> None:
    assert found(**settings) == {}


def test_w004_a_cache_that_keeps_nothing() -> None:
    messages = found(CACHES=cache("django.core.cache.backends.dummy.DummyCache"))
    assert list(messages) == ["W004"]
    assert isinstance(messages["W004"], Warning)


@pytest.mark.parametrize("heartbeat", [None, 0, 56, 3600])
def test_w005_silence_that_proxies_do_not_bear(heartbeat: Any) -> None:
    messages = found(AGENT_SSE={"HEARTBEAT": heartbeat})
    assert list(messages) == ["W005"]
    assert isinstance(messages["W005"], Warning)
    assert repr(heartbeat) in messages["W005"].msg


@pytest.mark.parametrize("heartbeat", [0.5, 15, 55])
def test_w005_is_silent_for_a_shorter_one(heartbeat: float) -> None:
    assert found(AGENT_SSE={"HEARTBEAT": heartbeat}) == {}


DATABASE_LOG = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": "topics"}}}


def with_database(monkeypatch: pytest.MonkeyPatch, **entry: Any) -> None:
    monkeypatch.setitem(connections.databases, "topics", {**connections.databases["default"], "OPTIONS": {}, **entry})


@pytest.mark.parametrize("mode", [None, "DEFERRED"])
def test_w006_transactions_of_sqlite_that_begin_without_a_lock(monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    with_database(monkeypatch, NAME="db.sqlite3", OPTIONS={} if mode is None else {"transaction_mode": mode})
    messages = found(AGENT_SSE=DATABASE_LOG)
    del connections["topics"]
    assert list(messages) == ["W006"]
    assert isinstance(messages["W006"], Warning)
    assert "DATABASES['topics']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE'}" in str(messages["W006"].hint)


@pytest.mark.parametrize(
    "entry",
    [
        {"OPTIONS": {"transaction_mode": "immediate"}, "NAME": "db.sqlite3"},
        {"NAME": ":memory:"},
        {"ENGINE": "django.db.backends.postgresql", "NAME": "x"},
    ],
)
def test_w006_is_silent_for_others(monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]) -> None:
    with_database(monkeypatch, **entry)
    assert found(AGENT_SSE=DATABASE_LOG) == {}
    del connections["topics"]


def test_e005_a_log_in_a_database_that_is_not_there() -> None:
    messages = found(AGENT_SSE=DATABASE_LOG)
    assert list(messages) == ["E005"]
    assert "'topics'" in messages["E005"].msg


def test_a_project_without_a_database_that_asks_for_no_log_is_told_nothing() -> None:
    code = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_agent_sse"], SECRET_KEY="x")
django.setup()
from django.core.checks import run_checks
print(run_checks(tags=["django_agent_sse"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
