"""The system checks: each id is raised by what is known not to work, and by nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import CheckMessage, Error, Warning, run_checks
from django.db import connections
from django.test import modify_settings, override_settings
from django.urls import include, path
from django.views.generic import RedirectView

from django_agent_sse import Context, Event, Router, Stream, signed_required
from django_agent_sse.checks import project
from django_agent_sse.conf import other_default
from django_agent_sse.eventlog.backend import build_log
from django_agent_sse.eventlog.validation import InternalTopic
from tests.log_databases import database
from tests.services import free_port
from tests.serving import served

pytestmark = pytest.mark.django_db  # the test database is in memory: W006 is about one in a file
TAG = "django_agent_sse"
ROOT = Path(__file__).resolve().parents[1]
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
    [
        None,
        ["HEARTBEAT"],
        {"HEARTBEET": 1},
        {"HEARTBEAT": "15"},
        {"ON_DISCONNECT": "stop"},
        {"RETRY": 1.5},
        {"BUFFER_EVENTS": 0},
        {"RECHECK_ON_SIGNALS": 1},
    ],
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


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("no.such.function", "cannot be imported"),
        (f"{__name__}.TAG", "not 'tests.test_checks.TAG'"),
        (42, "not 42"),
        (dict, "function"),
    ],
)
def test_e008_a_can_follow_that_cannot_be_called(given: Any, says: str) -> None:
    messages = found(AGENT_SSE={"CAN_FOLLOW": given})
    assert list(messages) == ["E008"]
    assert isinstance(messages["E008"], Error)
    assert says in messages["E008"].msg


@pytest.mark.parametrize("given", [None, "tests.test_checks.found", lambda user, topic: True, on_connection_async])
def test_e008_is_silent_for_a_function(given: Any) -> None:
    assert found(AGENT_SSE={"CAN_FOLLOW": given}) == {}


def pooled(monkeypatch: pytest.MonkeyPatch, pool: Any) -> None:
    monkeypatch.setitem(connections.databases, "topics", {**connections.databases["default"], "OPTIONS": {"pool": pool}})


@pytest.mark.parametrize(("pool", "size"), [(True, 4), ({}, None), ({"min_size": 2}, 2), ({"max_size": 15}, 15)])
def test_w009_a_pool_that_streams_could_take_whole(monkeypatch: pytest.MonkeyPatch, pool: Any, size: int | None) -> None:
    pooled(monkeypatch, pool)
    messages = found()
    assert list(messages) == ([] if size is None else ["W012"])
    if size is not None:
        assert isinstance(messages["W012"], Warning)
        assert f"DATABASES['topics'] has a pool of {size} connections" in messages["W012"].msg
        assert "16 at once" in messages["W012"].msg


def test_w009_counts_the_event_logs_own_threads_and_is_silent_for_a_larger_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    pooled(monkeypatch, {"max_size": 6})
    monkeypatch.setattr(project, "_deferred_transactions", list)
    log = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": "topics"}}
    assert list(found(AGENT_SSE={"THREADS": 3, "EVENT_LOG": log})) == ["W012"]
    assert list(found(AGENT_SSE={"THREADS": 3})) == []
    assert list(found(AGENT_SSE={"THREADS": 2, "EVENT_LOG": log})) == []


@pytest.mark.parametrize("engine", ["django_tenants.postgresql_backend", "tenant_schemas.postgresql_backend"])
def test_w010_an_engine_that_keeps_the_tenant_on_the_connection(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setitem(connections.databases, "topics", {**connections.databases["default"], "ENGINE": engine})
    messages = found()
    assert list(messages) == ["W013"]
    assert isinstance(messages["W013"], Warning)
    assert engine.partition(".")[0] in messages["W013"].msg
    assert found(AGENT_SSE={"ON_CONNECTION": "tests.test_checks.found"}) == {}


def test_w010_an_app_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project.apps, "is_installed", lambda name: name == "django_rls")
    assert list(found()) == ["W013"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"BACKEND": "no.such.Log"}, "cannot be imported"),
        ({"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENTS": 0}}, "MAX_EVENTS"),
        *(
            (
                {"BACKEND": f"django_agent_sse.eventlog.{log}", "OPTIONS": {"MAX_EVENT_BYTES": 8 * 2**20 + 1}},
                "8388608 (8 MiB) at most",
            )
            for log in ("memory.MemoryEventLog", "database.DatabaseEventLog", "redis.RedisEventLog")
        ),
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


def test_w011_a_runserver_of_djangos_own_while_developing() -> None:
    messages = found(DEBUG=True)
    assert list(messages) == ["W011"]
    assert "'daphne' first in INSTALLED_APPS" in str(messages["W011"].hint)
    assert list(found(DEBUG=True, ASGI_APPLICATION=None, WSGI_APPLICATION="shop.wsgi.application")) == ["W001"], "one is enough"


@pytest.mark.parametrize("apps", [[], ["whitenoise.runserver_nostatic"]], ids=["django", "whitenoise"])
@pytest.mark.parametrize("first", [[], ["daphne"]], ids=["wsgi", "daphne"])
def test_w011_runserver_says_at_its_start_whether_streams_will_work(tmp_path: Path, first: list[str], apps: list[str]) -> None:
    (tmp_path / "dev.py").write_text(
        f"from tests.site.settings import *\nDEBUG = True\nINSTALLED_APPS = [*{first + apps}, *INSTALLED_APPS]\n"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "dev",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "PYTHONUNBUFFERED": "1",
    }
    words = [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if "Quit the server" in line or "Listening on" in line:
                break
        server.terminate()
        server.stdout.read()
    assert ("django_agent_sse.W011" in "".join(said)) is not bool(first), said


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
    monkeypatch.setattr(project, "version", lambda package: "8.0.1")
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
    monkeypatch.setattr(project, "version", lambda package: "8.0.1")
    assert found(CHANNEL_LAYERS=layer(**config)) == {}


def test_w002_is_silent_for_other_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "version", lambda package: "8.0.1")
    others = {
        "a": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        "b": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": ["redis://localhost"]}},
    }
    assert found(CHANNEL_LAYERS=others) == {}


@pytest.mark.parametrize("installed", ["7.4.0", "", "unknown"])
def test_w002_is_silent_with_an_older_redis_py(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    monkeypatch.setattr(project, "version", lambda package: installed)
    assert found(CHANNEL_LAYERS=layer()) == {}


def test_w002_is_silent_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise project.PackageNotFoundError(package)

    monkeypatch.setattr(project, "version", missing)
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


async def follower(c: Context, stream: Stream) -> None:
    await stream.follow("news")


def factory(c: Context) -> Any:
    async def handler(stream: Stream) -> None:
        await stream.follow("news")

    return handler


async def plain(c: Context, stream: Stream) -> None:
    await stream.write("one")


def fresh(route: Callable[[Router], object], alias: str) -> set[str]:
    """The ids for a project that says nothing of its log, which is in a database file, and has one route."""
    router = Router()
    route(router)
    with served(router), override_settings(AGENT_SSE={}), other_default("EVENT_LOG", log_in(alias)):
        return {message.id or "" for message in run_checks(tags=[TAG])}


def log_in(alias: str) -> Any:
    return {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": alias}}


@pytest.fixture
def sqlite_file(tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    with django_db_blocker.unblock(), database("topics", entry) as alias:
        yield alias


@pytest.mark.parametrize(
    ("route", "warned"),
    [
        (lambda router: router.sse("", plain), False),
        (lambda router: router.topic("", "news"), True),
        (lambda router: router.log("", "news"), True),
        (lambda router: router.sse("", follower), True),
        (lambda router: router.sse("", factory), True),
    ],
    ids=["plain", "topic", "log", "follow", "follow in a factory"],
)
def test_w006_is_said_where_routes_use_topics(route: Any, warned: bool, sqlite_file: str) -> None:
    assert ("django_agent_sse.W006" in fresh(route, sqlite_file)) is warned


def test_w006_is_said_where_there_are_topics_but_only_to_who_asks_the_database(sqlite_file: str) -> None:
    log = build_log(log_in(sqlite_file))

    def ids(**how: Any) -> list[str]:
        with override_settings(AGENT_SSE={}), other_default("EVENT_LOG", log_in(sqlite_file)):
            return [name for message in run_checks(**how) if (name := message.id or "").startswith(TAG)]

    with served(Router()):
        log.append(InternalTopic("sse.monitor.reports"), Event("x"))
        assert ids(databases=[sqlite_file]) == []
        log.append("news", Event("x"))
        assert ids() == []
        assert ids(databases=["default"]) == []
        assert ids(databases=[sqlite_file]) == ["django_agent_sse.W006"]


PASSWORDS = ("p4Xy", "p4Xy/w0rD9", "p4Xy:q8Zt@w0rD9#?")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "given",
    [
        "redis://:{}@cache.internal:6379/0",
        {"BACKEND": "redis://user:{}@cache.internal:6379/0"},
        {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": "redis://:{}@cache.internal:6379/0"},
        {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTION": {"url": "redis://:{}@cache.internal:6379/0"}},
        {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": "redis:/:{}@cache.internal:6379/0"}},
        {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": "redis://:{}@cache.internal:port/0"}},
        {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"cache": "redis://:{}@cache.internal/0"}},
        {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"prefix": "redis://:{}@cache.internal/0"}},
        {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": "postgres://u:{}@db.internal/0"}},
        {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": ["{}@db.internal"]}},
        {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENTS": "redis://:{}@cache/0"}},
        {"BACKEND": 1, "PASSWORD": "{}", "OPTIONS": {"password": "{}", "url": b"redis://:{}@cache/0"}},
        ["redis://:{}@cache.internal:6379/0", ("{}@host",)],
    ],
    ids=repr,
)
def test_no_password_is_in_what_is_said_of_an_event_log(given: Any, password: str) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(filled, value))
        if isinstance(value, bytes):
            return value.replace(b"{}", password.encode())
        return value.replace("{}", password) if isinstance(value, str) else value

    messages = found(AGENT_SSE={"EVENT_LOG": filled(given)})
    if "#" in password and ":port" in str(given):
        assert not messages, "a URL that ends at the #, with a host before it"
        return
    assert list(messages) == ["E005"]
    told = f"{messages['E005'].msg} {messages['E005'].hint}"
    assert not [part for part in re.findall(r"\w+", password) if part in told], told


@pytest.mark.parametrize("key", ["CACHE", "HEARTBEAT", "THREADS", "MONITOR", "ON_DISCONNECT"])
def test_no_password_is_in_what_is_said_of_other_settings(key: str) -> None:
    for message in found(AGENT_SSE={key: "redis://:p4Xy/w0rD9@cache.internal"}).values():
        assert "p4Xy" not in message.msg
        assert "w0rD9" not in message.msg


def test_e005_a_log_in_a_database_that_is_not_there() -> None:
    messages = found(AGENT_SSE=DATABASE_LOG)
    assert list(messages) == ["E005"]
    assert "'topics'" in messages["E005"].msg


# The monitor, which is an app of its own


MONITOR = "django_agent_sse.contrib.monitor"


@pytest.mark.parametrize(
    "given",
    [{"ADRESS": "off"}, {"ADDRESS": "no"}, {"REPORTS": 1}, {"PROXIES": 1}, "off"],
    ids=["key", "word", "flag", "moved", "text"],
)
def test_e001_options_of_the_monitor_that_cannot_be_used(given: Any) -> None:
    messages = found(AGENT_SSE={"MONITOR": given})
    assert list(messages) == ["E001"]
    assert "AGENT_SSE['MONITOR']" in messages["E001"].msg


def templates(folder: Path) -> list[dict[str, Any]]:
    return [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [folder], "APP_DIRS": True}]


@pytest.fixture
def without_the_monitor() -> Iterator[None]:
    with modify_settings(INSTALLED_APPS={"remove": [MONITOR]}):
        yield


@pytest.mark.usefixtures("without_the_monitor")
def test_w014_options_of_a_monitor_that_is_not_installed() -> None:
    messages = found(AGENT_SSE={"MONITOR": {"ADDRESS": "off"}})
    assert "AGENT_SSE['MONITOR'] is set" in messages["W014"].msg
    assert f"Add '{MONITOR}' to INSTALLED_APPS" in str(messages["W014"].hint)


@pytest.mark.parametrize(
    "link",
    [
        "{% url 'admin:agent_sse_monitor_livestreams_changelist' %}",
        "{% url 'admin:django_agent_sse_livestreams_changelist' %}",
        "<a href=/staff/agent_sse_monitor/livestreams/close/>",
    ],
    ids=["name", "name of before", "address"],
)
@pytest.mark.usefixtures("without_the_monitor")
def test_w014_a_template_that_links_to_a_page_that_is_not_there(tmp_path: Path, link: str) -> None:
    (tmp_path / "plain.html").write_text("<p>livestreams of ours</p>")
    assert "W014" not in found(TEMPLATES=templates(tmp_path))
    (tmp_path / "base.html").write_text(link)
    assert str(tmp_path / "base.html") in found(TEMPLATES=templates(tmp_path))["W014"].msg


@pytest.mark.usefixtures("without_the_monitor")
def test_w014_a_route_that_redirects_to_a_page_that_is_not_there() -> None:
    urlconf = ModuleType("urlconf")
    leads = RedirectView.as_view(pattern_name="admin:agent_sse_monitor_livestreams_changelist")
    vars(urlconf)["urlpatterns"] = [path("ops/", include([path("live/", leads)]))]
    assert "'live/'" in found(ROOT_URLCONF=urlconf)["W014"].msg


@pytest.mark.usefixtures("without_the_monitor")
def test_w014_is_silent_for_a_project_without_the_monitor() -> None:
    assert found() == {}


def test_w014_is_silent_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "base.html").write_text("{% url 'admin:agent_sse_monitor_livestreams_changelist' %}")
    assert found(AGENT_SSE={"MONITOR": {"ADDRESS": "off"}}, TEMPLATES=templates(tmp_path)) == {}


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


# Limits


SHARED_CACHE = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/nowhere"}}


@pytest.mark.parametrize(
    "given", [{"USERS": 5}, {"USER": 0}, {"USER": "5"}, {"DESCRIPTORS": 1}, [], {"REPLAY_BYTES": 1}, "none"], ids=repr
)
def test_e001_limits_that_cannot_be_meant(given: Any) -> None:
    messages = found(AGENT_SSE={"LIMITS": given})
    assert list(messages) == ["E001"]
    assert "AGENT_SSE['LIMITS']" in messages["E001"].msg


@pytest.mark.parametrize(
    "given",
    [{"PROXIES": -1}, {"PROXIES": "X Real"}, {"PROXIES": True}, {"DRAIN_SECONDS": "4"}, {"RECONNECTS": 0}],
    ids=repr,
)
def test_e001_proxies_and_a_pace_that_cannot_be_meant(given: Any) -> None:
    assert list(found(AGENT_SSE=given)) == ["E001"]


def streams_of(**options: Any) -> Router:
    async def handler(c: Context, stream: Stream) -> None: ...

    router = Router()
    router.sse("limited/", handler, **options)
    return router


def deployed(**settings: Any) -> dict[str, CheckMessage]:
    with override_settings(**settings):
        messages = run_checks(tags=[TAG], include_deployment_checks=True)
    return {(message.id or "").removeprefix(f"{TAG}."): message for message in messages}


def test_w020_limits_that_each_process_counts_for_itself() -> None:
    with served(streams_of()):
        messages = deployed()
        assert isinstance(messages["W020"], Warning)
        assert "USER, SESSION, ADDRESS" in messages["W020"].msg
        assert "LocMemCache" in messages["W020"].msg
        assert "W020" not in deployed(CACHES=SHARED_CACHE)
        assert "W020" not in deployed(AGENT_SSE={"LIMITS": None})
        assert "W020" not in found(), "with --deploy only"
    with served(Router()):
        assert "W020" not in deployed()


def test_w016_a_log_on_which_no_other_process_hears_of_a_log_out() -> None:
    memory = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
    with served(streams_of()):
        message = deployed(AGENT_SSE=memory)["W016"]
        assert isinstance(message, Warning)
        assert "close_streams()" in message.msg
        assert "W016" not in deployed(AGENT_SSE={"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}})
        assert "W016" not in found(AGENT_SSE=memory), "with --deploy only"
    with served(Router()):
        assert "W016" not in deployed(AGENT_SSE=memory)


def test_w017_routes_that_take_signed_addresses_where_there_are_none() -> None:
    async def handler(c: Context, stream: Stream) -> None: ...

    off = {"SIGNED_MAX_AGE": None}
    router = streams_of()
    with served(router):
        assert "W017" not in found(AGENT_SSE=off)
    router.sse("option/", handler, signed=True)
    router.sse("guard/", handler, guards=[signed_required])
    with served(router):
        message = found(AGENT_SSE=off)["W017"]
        assert isinstance(message, Warning)
        assert "'option/', 'guard/'. " in message.msg
        assert "W017" not in found()


@pytest.mark.parametrize("name", ["SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT"])
def test_w021_a_proxy_that_is_not_spoken_of(name: str) -> None:
    behind: dict[str, Any] = {name: ("HTTP_X_FORWARDED_PROTO", "https") if name.startswith("SECURE") else True}
    messages = deployed(**behind)
    assert isinstance(messages["W021"], Warning)
    assert name in messages["W021"].msg
    for said in ({"PROXIES": 1}, {"PROXIES": "X-Real-IP"}, {"PROXIES": 0}, {"LIMITS": None}):
        assert "W021" not in deployed(**behind, AGENT_SSE=said)
    assert "W021" not in deployed()


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "Forwarded"])
def test_w024_a_header_that_holds_a_list_of_proxies(name: str) -> None:
    message = found(AGENT_SSE={"PROXIES": name})["W024"]
    assert isinstance(message, Warning)
    assert name in message.msg
    for said in (1, 0, None, "X-Real-IP"):
        assert "W024" not in found(AGENT_SSE={"PROXIES": said})


@pytest.mark.parametrize(
    ("limits", "route", "says"),
    [
        ({"SESSION": 500}, {}, "['SESSION'] is 500, and is never met: USER is 256"),
        ({"ROUTE": 20_000}, {}, "['ROUTE'] is 20000, and is never met: PROCESS is 10000"),
        ({"ADDRESS_CONNECTS": 900}, {}, "['ADDRESS_CONNECTS'] is 900, and is never met: CONNECTS is 500"),
        ({"UNKNOWN": 65}, {}, "['UNKNOWN'] is 65, and is never met: REQUEST_THREADS is 64"),
        ({"PROCESS": 10, "ROUTE": None}, {"max_streams": 11}, "max_streams of the route limited/ is 11, and is never met"),
    ],
    ids=repr,
)
def test_w022_a_limit_that_another_one_always_meets_first(limits: dict[str, int], route: dict[str, int], says: str) -> None:
    with served(streams_of(**route)):
        messages = found(AGENT_SSE={"LIMITS": limits})
    assert list(messages) == ["W022"]
    assert isinstance(messages["W022"], Warning)
    assert says in messages["W022"].msg


def test_w022_is_silent_for_limits_that_can_be_met() -> None:
    with served(streams_of(max_streams=5)):
        assert found(AGENT_SSE={"LIMITS": {"SESSION": 10, "USER": 20, "PROCESS": 500, "ROUTE": None}}) == {}
