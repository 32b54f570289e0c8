"""System checks of a project: what is known not to work, with a hint."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.core.management import get_commands, load_command_class
from django.core.management.commands.runserver import Command as DjangosRunserver
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from .. import conf
from ..eventlog.backend import build_log
from ..exceptions import AgentSSEError, RouteError
from ..streams.client import monitor_options
from ..streams.handlers import uses_name
from ..streams.kv import is_per_process
from ..streams.limits import limits
from ..streams.registry import SLOWEST_HEARTBEAT
from ..streams.threads import most_connections, on_connection
from ..streams.topic_access import can_follow
from .access import access_not_shared, signed_urls_off
from .apps_missing import no_monitor
from .cross_origin import cors_headers_beside, posts_refused_by_csrf
from .limits import limits_not_shared, limits_without_effect, proxies_in_a_list, proxies_not_said
from .runs import runs_not_shared
from .urls import stream_routes

TENANTS = ("django_tenants", "tenant_schemas", "django_pgschemas", "django_rls", "django_rls_tenants", "django_pg_tenants")
"""Packages that keep the tenant on a database connection: names of apps, and beginnings of engines."""

_SETTINGS_HINT = "The documentation's page reference/settings names every key, its default and its unit."
_ON_CONNECTION_HINT = 'Write def on_connection(connection, c): …, and name it: "myproject.tenants.on_connection".'
_CAN_FOLLOW_HINT = 'Write def can_follow(user, topic): …, and name it: "myproject.access.can_follow".'
_FINDINGS: Mapping[str, Callable[..., checks.CheckMessage]] = {
    "unusable": partial(checks.Error, id="django_agent_sse.E006"),
    "evicts": partial(checks.Warning, id="django_agent_sse.W007"),
    "forgets": partial(checks.Warning, id="django_agent_sse.W008"),
    "untested": partial(checks.Warning, id="django_agent_sse.W025"),
}


def register() -> None:
    checks.register(check_project, "django_agent_sse")
    checks.register(check_deployment, "django_agent_sse", deploy=True)
    checks.register(check_topics, checks.Tags.database)  # by our own tag it would run in a plain check


def check_project(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check ``AGENT_SSE``, the settings around it, and the routes."""
    return _run(
        _setting_errors,
        _no_asgi,
        _redis_layer_time_out,
        _unfit_cache,
        _slow_heartbeat,
        *([_deferred_transactions] if _follows_topics() else []),
        _small_pools,
        _silent_tenants,
        no_monitor,
        cors_headers_beside,
        posts_refused_by_csrf,
        signed_urls_off,
        wrong_routes,
        limits_without_effect,
        proxies_in_a_list,
    )


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check what several processes need, and the server that keeps topics: asks it, so with ``--deploy`` only."""
    return _run(_examination, _values_not_shared, runs_not_shared, access_not_shared, limits_not_shared, proxies_not_said)


def _run(*parts: Callable[[], Iterator[checks.CheckMessage]]) -> list[checks.CheckMessage]:
    """Run checks one by one. Each passes over settings that cannot be used: E001, E002, E003, E005 or E007 says it."""
    messages: list[checks.CheckMessage] = []
    for part in parts:
        with contextlib.suppress(AgentSSEError, ConnectionDoesNotExist):
            messages += part()
    return messages


def check_topics(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Check what matters once there are topics. Asks their database: runs with ``check --database`` and ``migrate`` only."""
    return _run(_deferred_transactions) if not _follows_topics() and _has_topics(databases or ()) else []


def _examination() -> Iterator[checks.CheckMessage]:
    for finding in build_log(conf.setting("EVENT_LOG")).examine():
        yield _FINDINGS[finding.kind](finding.about, hint=finding.hint)


def wrong_routes() -> Iterator[checks.CheckMessage]:
    """Check every handler against all that its URL captures, also in the ``include()`` around it."""
    for pattern, names, endpoint in stream_routes():
        try:
            endpoint.shape.takes_stream(names)
        except RouteError as error:
            yield checks.Error(
                f"the route {pattern.pattern} cannot be served: {error}",
                hint="Name what the URL captures as the handler does.",
                id="django_agent_sse.E004",
            )


def _follows_topics() -> bool:
    """Whether the project uses topics, as far as its settings and routes say: a new one need not be told about their database."""
    own = getattr(settings, "AGENT_SSE", {})
    if isinstance(own, Mapping) and "EVENT_LOG" in own:
        return True
    return any(endpoint.shape.follows for _, _, endpoint in stream_routes())


def _has_topics(databases: Sequence[str]) -> bool:
    """Whether anybody has published to the log, if that is in one of these databases."""
    try:
        log = build_log(conf.setting("EVENT_LOG"))
        if not log.transactional or log.alias not in databases:
            return False
        return bool(log.topics(limit=1))
    except AgentSSEError:  # no tables yet
        return False


def _values_not_shared() -> Iterator[checks.CheckMessage]:
    """Check the caches behind ``c.kv`` of routes whose code, or that of a guard, names it."""
    users: dict[str, list[str]] = defaultdict(list)
    for pattern, _, endpoint in stream_routes():
        with contextlib.suppress(AgentSSEError):  # E001 and E002 say it
            alias = endpoint.options().cache
            view: Any = pattern.callback.view_class  # type: ignore[attr-defined]
            functions = (view.handle, view.authorize, *endpoint.guards)
            if is_per_process(alias) and any(uses_name(function, "kv") for function in functions):
                users[alias].append(str(pattern.pattern))
    for alias, routes in users.items():
        more = f" and {len(routes) - 3} more" if len(routes) > 3 else ""
        yield checks.Warning(
            f"c.kv of the routes {', '.join(map(repr, routes[:3]))}{more} keeps its values in CACHES[{alias!r}], "
            f"{settings.CACHES[alias]['BACKEND'].rpartition('.')[2]}, which each process has of its own: they never see what a "
            "task, a command or another worker has stored",
            hint="Point AGENT_SSE['CACHE'], or the route's option cache, at a cache that processes share (Redis, Memcached, the "
            "database, files), or publish to a topic instead. Silence this where one process does everything.",
            id="django_agent_sse.W009",
        )


def _setting_errors() -> Iterator[checks.CheckMessage]:
    own = getattr(settings, "AGENT_SSE", {})
    wrong = conf.wrong_values(own) if isinstance(own, Mapping) else {}
    threads = [wrong.pop(name) for name in ("THREADS", "REQUEST_THREADS", "PINNED_THREADS") if name in wrong]
    for message in threads:
        yield checks.Error(
            message,
            hint="It is the most threads, and so the most connections to each database, that a process has for them.",
            id="django_agent_sse.E003",
        )
    if threads and not (wrong or conf.unknown_keys(own)):
        return
    try:
        cache = conf.setting("CACHE")
    except AgentSSEError as error:
        each = "; ".join([*conf.unknown_keys(own), *wrong.values()]) if isinstance(own, Mapping) else ""
        yield checks.Error(
            f"AGENT_SSE cannot be used: {each or error}",
            hint=_SETTINGS_HINT,
            id="django_agent_sse.E001",
        )
        return
    if not isinstance(cache, str) or cache not in settings.CACHES:
        yield checks.Error(
            f"AGENT_SSE['CACHE'] is {conf.shown(cache)}, which CACHES does not define",
            hint=f"Name one of {', '.join(settings.CACHES)}.",
            id="django_agent_sse.E002",
        )
    for read, prefix, hint, id in (
        (limits, "AGENT_SSE cannot be used: ", _SETTINGS_HINT, "django_agent_sse.E001"),
        (monitor_options, "AGENT_SSE cannot be used: ", _SETTINGS_HINT, "django_agent_sse.E001"),
        (on_connection, "", _ON_CONNECTION_HINT, "django_agent_sse.E007"),
        (can_follow, "", _CAN_FOLLOW_HINT, "django_agent_sse.E008"),
    ):
        try:
            read()
        except AgentSSEError as error:
            yield checks.Error(f"{prefix}{error}", hint=hint, id=id)
    no_database = connections.settings["default"]["ENGINE"] == "django.db.backends.dummy"
    if no_database and "EVENT_LOG" not in getattr(settings, "AGENT_SSE", {}):
        return  # a project without a database, which has asked for no log: publish() would tell it
    try:
        problems = build_log(conf.setting("EVENT_LOG")).check()
    except AgentSSEError as error:
        problems = [str(error)]
    for problem in problems:
        yield checks.Error(
            f"topics cannot be kept: {problem}",
            hint="The documentation's page reference/settings has the back ends and their OPTIONS.",
            id="django_agent_sse.E005",
        )


def _no_asgi() -> Iterator[checks.CheckMessage]:
    if not getattr(settings, "ASGI_APPLICATION", None) and getattr(settings, "WSGI_APPLICATION", None):
        yield checks.Warning(
            "WSGI_APPLICATION is set and ASGI_APPLICATION is not: under WSGI a stream would send nothing before its end",
            hint="Set ASGI_APPLICATION, and run an ASGI server; for runserver, install daphne and put 'daphne' first in "
            "INSTALLED_APPS.",
            id="django_agent_sse.W001",
        )
    elif settings.DEBUG and _runserver_is_djangos():
        yield checks.Warning(
            "manage.py runserver serves this project by WSGI, whatever ASGI_APPLICATION is: streams are answered with 500",
            hint="Put 'daphne' first in INSTALLED_APPS, which makes runserver an ASGI server, or run one yourself, such as "
            "`uvicorn --reload`. Silence this check where nobody uses runserver.",
            id="django_agent_sse.W011",
        )


def _runserver_is_djangos() -> bool:
    """Whether the command runs Django's own server, whichever app it comes from."""
    app = get_commands().get("runserver")
    try:
        command = load_command_class(app, "runserver") if isinstance(app, str) else app
    except (ImportError, AttributeError):  # it will say so itself
        return False
    return getattr(type(command), "inner_run", None) is DjangosRunserver.inner_run


def _redis_layer_time_out() -> Iterator[checks.CheckMessage]:
    try:
        if int(version("redis").partition(".")[0]) < 8:
            return
    except (PackageNotFoundError, ValueError):
        return
    for alias, layer in getattr(settings, "CHANNEL_LAYERS", {}).items():
        if layer.get("BACKEND") == "channels_redis.core.RedisChannelLayer" and not all(
            map(_waits_long_enough, layer.get("CONFIG", {}).get("hosts", [None]))
        ):
            yield checks.Warning(
                f"CHANNEL_LAYERS[{alias!r}] uses channels_redis.core with redis-py 8, whose socket time-out of 5 s breaks its "
                "blocking reads",
                hint="Give each host as {'address': 'redis://…', 'socket_timeout': None}, or use "
                "channels_redis.pubsub.RedisPubSubChannelLayer.",
                id="django_agent_sse.W002",
            )


def _waits_long_enough(host: Any) -> bool:
    if isinstance(host, Mapping):
        return "socket_timeout" in host and (host["socket_timeout"] is None or host["socket_timeout"] > 5)
    return isinstance(host, str) and "socket_timeout=" in host


def _unfit_cache() -> Iterator[checks.CheckMessage]:
    alias = conf.setting("CACHE")
    cache: Mapping[str, Any] = settings.CACHES.get(alias, {}) if isinstance(alias, str) else {}  # else E002 says it
    backend = cache.get("BACKEND", "")
    ignores = cache.get("OPTIONS", {}).get("IGNORE_EXCEPTIONS", getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False))
    if backend.startswith("django_redis.") and ignores:
        yield checks.Warning(
            "c.kv uses a django-redis cache with IGNORE_EXCEPTIONS: a Redis that is down looks like a missing key",
            hint="Point AGENT_SSE['CACHE'] at an alias without IGNORE_EXCEPTIONS.",
            id="django_agent_sse.W003",
        )
    elif backend.endswith(".DummyCache"):
        yield checks.Warning(
            "c.kv uses Django's dummy cache, which keeps nothing",
            hint="Point AGENT_SSE['CACHE'] at an alias that stores values.",
            id="django_agent_sse.W004",
        )


def _slow_heartbeat() -> Iterator[checks.CheckMessage]:
    heartbeat = conf.setting("HEARTBEAT")
    if not heartbeat or (isinstance(heartbeat, int | float) and heartbeat > SLOWEST_HEARTBEAT):
        yield checks.Warning(
            f"AGENT_SSE['HEARTBEAT'] is {conf.shown(heartbeat)}: proxies and load balancers close a connection after 60 s of "
            "silence, and a client that vanished is never noticed",
            hint="Leave it at 15.",
            id="django_agent_sse.W005",
        )


def _deferred_transactions() -> Iterator[checks.CheckMessage]:
    log = build_log(conf.setting("EVENT_LOG"))
    connection = connections[log.alias] if log.transactional else None
    if connection is None or connection.vendor != "sqlite" or connection.is_in_memory_db():  # type: ignore[attr-defined]
        return
    if str(connection.settings_dict["OPTIONS"].get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield checks.Warning(
            f"topics are kept in DATABASES[{log.alias!r}], an SQLite database whose transactions begin without a lock: with "
            'several threads or processes, publish() inside atomic() can fail with "database is locked"',
            hint=f"Set DATABASES[{log.alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE'}}.",
            id="django_agent_sse.W006",
        )


def _silent_tenants() -> Iterator[checks.CheckMessage]:
    engines = [connections.settings[alias]["ENGINE"].partition(".")[0] for alias in connections]
    packages = [name for name in TENANTS if name in engines or apps.is_installed(name)]
    if packages and on_connection() is None:
        yield checks.Warning(
            f"{packages[0]} keeps the tenant on the database connection, and streams do not keep their request's: they read "
            "without a tenant",
            hint="Name a function (connection, c) as AGENT_SSE['ON_CONNECTION'] that sets it, as connection.set_tenant("
            "c.request.tenant) does; or serve such routes with pinned=True.",
            id="django_agent_sse.W013",
        )


def _small_pools() -> Iterator[checks.CheckMessage]:
    for alias in connections:
        pool = connections.settings[alias].get("OPTIONS", {}).get("pool")
        if not pool:
            continue
        options = pool if isinstance(pool, Mapping) else {}
        size = options.get("max_size") or options.get("min_size", 4)
        wanted = most_connections(alias)
        if size < wanted:
            yield checks.Warning(
                f"DATABASES[{alias!r}] has a pool of {size} connections, and streams with the log may use {wanted} at once: "
                "requests would wait",
                hint=f"Raise OPTIONS['pool']['max_size'] above {wanted}, or lower AGENT_SSE['THREADS'].",
                id="django_agent_sse.W012",
            )
