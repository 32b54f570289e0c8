"""System checks of a project: what is known not to work, with a hint."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import CodeType
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.db import connections
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.connection import ConnectionDoesNotExist

from .. import conf
from ..eventlog.backend import build_log
from ..exceptions import AgentSSEError, RouteError
from ..streams.kv_sharing import is_per_process
from ..streams.state import SLOWEST_HEARTBEAT
from ..streams.threads import most_connections, on_connection
from .apps_missing import no_monitor
from .runs import runs_not_shared
from .servers import no_asgi

TENANTS = ("django_tenants", "tenant_schemas", "django_pgschemas", "django_rls", "django_rls_tenants", "django_pg_tenants")
"""Packages that keep the tenant on a database connection: names of apps, and beginnings of engines."""

_FINDINGS: Mapping[str, Callable[..., checks.CheckMessage]] = {
    "unusable": partial(checks.Error, id="django_agent_sse.E006"),
    "evicts": partial(checks.Warning, id="django_agent_sse.W007"),
    "forgets": partial(checks.Warning, id="django_agent_sse.W008"),
}


def register() -> None:
    """Make ``manage.py check`` run them."""
    checks.register(check_settings, "django_agent_sse")
    checks.register(check_deployment, "django_agent_sse")
    checks.register(check_routes, "django_agent_sse")
    checks.register(check_store, "django_agent_sse", deploy=True)
    checks.register(check_topics, checks.Tags.database)  # by our own tag it would run in a plain check
    checks.register(check_shared_values, "django_agent_sse", deploy=True)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check ``AGENT_SSE`` itself."""
    return list(_setting_errors())


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check the settings around it."""
    return [
        *no_asgi(),
        *_redis_layer_time_out(),
        *_silent_cache(),
        *_dummy_cache(),
        *_slow_heartbeat(),
        *(_deferred_transactions() if _follows_topics() else []),
        *_small_pools(),
        *_silent_tenants(),
        *no_monitor(),
    ]


def check_topics(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Check what matters once there are topics. Asks their database: runs with ``check --database`` and ``migrate`` only."""
    return list(_deferred_transactions()) if not _follows_topics() and _has_topics(databases or ()) else []


def check_store(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check the server that keeps topics. Asks it: runs with ``--deploy`` only."""
    try:
        findings = build_log(conf.setting("EVENT_LOG")).examine()
    except AgentSSEError:  # E001 and E005 say it
        return []
    return [_FINDINGS[finding.kind](finding.about, hint=finding.hint) for finding in findings]


def check_routes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check every handler against all that its URL captures, also in the ``include()`` around it."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    return list(_misfits(get_resolver(), frozenset()))


def _follows_topics() -> bool:
    """Whether the project uses topics, as far as its settings and routes say: a new one need not be told about their database."""
    given = getattr(settings, "AGENT_SSE", {})
    if isinstance(given, Mapping) and "EVENT_LOG" in given:
        return True
    routes = _streams(get_resolver()) if getattr(settings, "ROOT_URLCONF", None) else ()
    return any(_endpoint(route).shape.follows for route in routes)


def _has_topics(databases: Sequence[str]) -> bool:
    """Whether anybody has published to the log, if that is in one of these databases."""
    try:
        log = build_log(conf.setting("EVENT_LOG"))
        if not log.transactional or log.alias not in databases:
            return False
        return bool(log.topics(limit=1))
    except AgentSSEError:  # no tables yet
        return False


def check_shared_values(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check what several processes must share: caches behind ``c.kv`` of routes that name it, and runs. With ``--deploy``."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    users: dict[str, list[str]] = defaultdict(list)
    runs = runs_not_shared(_streams(get_resolver()))
    for pattern in _streams(get_resolver()):
        try:
            alias = _endpoint(pattern).options().cache
        except AgentSSEError:  # E001 and E002 say it
            continue
        if is_per_process(alias) and _uses_kv(pattern):
            users[alias].append(str(pattern.pattern))
    return [*(_not_shared(alias, routes) for alias, routes in users.items()), *runs]


def _not_shared(alias: str, routes: list[str]) -> checks.CheckMessage:
    more = f" and {len(routes) - 3} more" if len(routes) > 3 else ""
    return checks.Warning(
        f"c.kv of the routes {', '.join(map(repr, routes[:3]))}{more} keeps its values in CACHES[{alias!r}], "
        f"{settings.CACHES[alias]['BACKEND'].rpartition('.')[2]}, which each process has of its own: they never see what a task, "
        "a command or another worker has stored",
        hint="Point AGENT_SSE['CACHE'], or the route's option cache, at a cache that processes share (Redis, Memcached, the "
        "database, files), or publish to a topic instead. Silence this where one process does everything.",
        id="django_agent_sse.W009",
    )


def _streams(resolver: URLResolver) -> Iterator[URLPattern]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _streams(pattern)
        elif getattr(pattern.callback, "view_initkwargs", {}).get("_endpoint"):
            yield pattern


def _endpoint(pattern: URLPattern) -> Any:
    return pattern.callback.view_initkwargs["_endpoint"]  # type: ignore[attr-defined]


def _uses_kv(pattern: URLPattern) -> bool:
    """Whether the code of the route's handler or of one of its guards names ``kv``; what they call is not looked into."""
    view: Any = pattern.callback
    functions = (view.view_class.handle, view.view_class.authorize, *_endpoint(pattern).guards)
    codes = (getattr(inspect.unwrap(function), "__code__", None) for function in functions)
    return any("kv" in _names(code) for code in codes if code is not None)


def _names(code: CodeType) -> set[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _misfits(resolver: URLResolver, captured: frozenset[str]) -> Iterator[checks.CheckMessage]:
    for pattern in resolver.url_patterns:
        given = pattern.default_kwargs if isinstance(pattern, URLResolver) else pattern.default_args
        names = captured.union(pattern.pattern.regex.groupindex, given)
        if isinstance(pattern, URLResolver):
            yield from _misfits(pattern, names)
        elif endpoint := getattr(pattern.callback, "view_initkwargs", {}).get("_endpoint"):
            try:
                endpoint.shape.check(names)
            except RouteError as error:
                yield checks.Error(
                    f"the route {pattern.pattern} cannot be served: {error}",
                    hint="Name what the URL captures as the handler does.",
                    id="django_agent_sse.E004",
                )


def _setting_errors() -> Iterator[checks.CheckMessage]:
    given = getattr(settings, "AGENT_SSE", {})
    wrong = conf.wrong_values(given) if isinstance(given, Mapping) else {}
    threads = [wrong.pop(name) for name in ("THREADS", "REQUEST_THREADS", "PINNED_THREADS") if name in wrong]
    for message in threads:
        yield checks.Error(
            message,
            hint="It is the most threads, and so the most connections to each database, that a process has for them.",
            id="django_agent_sse.E003",
        )
    if threads and not (wrong or conf.unknown_keys(given)):
        return
    try:
        cache = conf.current()["CACHE"]
    except AgentSSEError as error:
        each = "; ".join([*conf.unknown_keys(given), *wrong.values()]) if isinstance(given, Mapping) else ""
        yield checks.Error(
            f"AGENT_SSE cannot be used: {each or error}",
            hint="The documentation's page reference/settings names every key, its default and its unit.",
            id="django_agent_sse.E001",
        )
        return
    if not isinstance(cache, str) or cache not in settings.CACHES:
        yield checks.Error(
            f"AGENT_SSE['CACHE'] is {conf.shown(cache)}, which CACHES does not define",
            hint=f"Name one of {', '.join(settings.CACHES)}.",
            id="django_agent_sse.E002",
        )
    yield from _on_connection()
    yield from _event_log()


def _on_connection() -> Iterator[checks.CheckMessage]:
    try:
        on_connection()
    except AgentSSEError as error:
        yield checks.Error(
            str(error),
            hint='Write def on_connection(connection, c): …, and name it: "myproject.tenants.on_connection".',
            id="django_agent_sse.E007",
        )


def _event_log() -> Iterator[checks.CheckMessage]:
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


def _redis_layer_time_out() -> Iterator[checks.CheckMessage]:
    if _major("redis") < 8:
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


def _kv_cache() -> Mapping[str, Any]:
    try:
        cache: Mapping[str, Any] = settings.CACHES[conf.setting("CACHE")]
    except (AgentSSEError, KeyError, TypeError):  # E001 and E002 say it
        return {}
    return cache


def _silent_cache() -> Iterator[checks.CheckMessage]:
    cache = _kv_cache()
    ignores = cache.get("OPTIONS", {}).get("IGNORE_EXCEPTIONS", getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False))
    if cache.get("BACKEND", "").startswith("django_redis.") and ignores:
        yield checks.Warning(
            "c.kv uses a django-redis cache with IGNORE_EXCEPTIONS: a Redis that is down looks like a missing key",
            hint="Point AGENT_SSE['CACHE'] at an alias without IGNORE_EXCEPTIONS.",
            id="django_agent_sse.W003",
        )


def _dummy_cache() -> Iterator[checks.CheckMessage]:
    if _kv_cache().get("BACKEND", "").endswith(".DummyCache"):
        yield checks.Warning(
            "c.kv uses Django's dummy cache, which keeps nothing",
            hint="Point AGENT_SSE['CACHE'] at an alias that stores values.",
            id="django_agent_sse.W004",
        )


def _slow_heartbeat() -> Iterator[checks.CheckMessage]:
    try:
        heartbeat = conf.setting("HEARTBEAT")
    except AgentSSEError:
        return
    if not heartbeat or (isinstance(heartbeat, int | float) and heartbeat > SLOWEST_HEARTBEAT):
        yield checks.Warning(
            f"AGENT_SSE['HEARTBEAT'] is {conf.shown(heartbeat)}: proxies and load balancers close a connection after 60 s of "
            "silence, and a client that vanished is never noticed",
            hint="Leave it at 15.",
            id="django_agent_sse.W005",
        )


def _deferred_transactions() -> Iterator[checks.CheckMessage]:
    try:
        log = build_log(conf.setting("EVENT_LOG"))
        connection = connections[log.alias] if log.transactional else None
    except (AgentSSEError, ConnectionDoesNotExist):  # E001 and E005 say it
        return
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
    found = [name for name in TENANTS if name in engines or apps.is_installed(name)]
    try:
        silent = found and on_connection() is None
    except AgentSSEError:  # E001 and E007 say it
        return
    if silent:
        yield checks.Warning(
            f"{found[0]} keeps the tenant on the database connection, and streams do not keep their request's: they read "
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
        try:
            wanted = most_connections(alias)
        except AgentSSEError:  # E001, E003 and E005 say it
            return
        if size < wanted:
            yield checks.Warning(
                f"DATABASES[{alias!r}] has a pool of {size} connections, and streams with the log may use {wanted} at once: "
                "requests would wait",
                hint=f"Raise OPTIONS['pool']['max_size'] above {wanted}, or lower AGENT_SSE['THREADS'].",
                id="django_agent_sse.W012",
            )


def _major(package: str) -> int:
    try:
        return int(version(package).partition(".")[0])
    except (PackageNotFoundError, ValueError):
        return 0
