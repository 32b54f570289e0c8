"""What ``manage.py check --deploy`` finds out about the server, and what it says that this means."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.eventlog.redis import server as server_module

from ...services import free_port
from ...valkeys import valkey


def kinds(url: str) -> list[str]:
    return [finding.kind for finding in RedisEventLog(url=url).examine()]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"appendonly": "yes"}, []),
        ({"appendonly": "yes", "maxmemory": "100mb", "maxmemory_policy": "noeviction"}, []),
        ({"appendonly": "yes", "maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}, ["evicts"]),
        ({"appendonly": "yes", "maxmemory": "100mb", "maxmemory_policy": "volatile-ttl"}, ["evicts"]),
        ({"appendonly": "yes", "maxmemory_policy": "allkeys-lru"}, []),
        ({"save": "3600 1"}, ["forgets"]),
        ({}, ["forgets"]),
        ({"appendonly": "yes", "cluster_enabled": "yes"}, ["unusable"]),
    ],
    ids=lambda value: " ".join(f"{name}={given}" for name, given in value.items()) if isinstance(value, dict) else "",
)
def test_what_a_server_keeps_and_what_it_drops_is_found_out(options: dict[str, Any], found: list[str]) -> None:
    if "cluster_enabled" in options:  # else it takes another port by itself, 10,000 above
        options = {**options, "cluster_port": str(free_port())}
    with valkey(**options) as server:
        assert kinds(server.url) == found


def test_what_is_lost_in_a_crash_is_told_apart() -> None:
    with valkey() as server:
        server.client().config_set("save", "3600 1")
        assert "snapshots only" in RedisEventLog(url=server.url).examine()[0].about
        server.client().config_set("save", "")
        assert "keeps nothing on disk" in RedisEventLog(url=server.url).examine()[0].about
        server.client().execute_command("ACL", "SETUSER", "default", "-config")
        assert kinds(server.url) == [], "what cannot be told is not guessed"


@pytest.mark.parametrize(("version", "found"), [("5.0.14", 1), ("6.0.16", 1), ("6.2.0", 0), ("7.2.4", 0), ("10.0.0", 0)])
def test_a_server_that_is_too_old_is_told(version: str, found: int) -> None:
    told = [*server_module._unusable("CACHES['default']", {"redis_version": version})]
    assert [finding.about for finding in told] == [f"the server of CACHES['default'] is Redis {version}"] * found


def test_a_replica_is_no_place_for_topics() -> None:
    with valkey(appendonly="yes") as server:
        server.client().replicaof("127.0.0.1", 1)
        assert kinds(server.url) == ["unusable"]


def test_a_server_that_is_away_is_one_finding_that_names_the_setting() -> None:
    (finding,) = RedisEventLog(url="redis://127.0.0.1:1/0").examine()
    assert finding.kind == "unusable"
    assert "AGENT_SSE['EVENT_LOG']['OPTIONS']['url']" in finding.about


def test_only_deployment_checks_ask_the_server() -> None:
    log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": "redis://127.0.0.1:1/0"}}
    with override_settings(AGENT_SSE={"EVENT_LOG": log, "LIMITS": None}):
        assert run_checks(tags=["django_agent_sse"]) == []
        (message,) = run_checks(tags=["django_agent_sse"], include_deployment_checks=True)
    assert message.id == "django_agent_sse.E006"
    assert message.hint


def test_each_finding_has_an_id_of_its_own() -> None:
    with valkey(maxmemory="100mb", maxmemory_policy="allkeys-lru") as server:
        log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": server.url}}
        with override_settings(AGENT_SSE={"EVENT_LOG": log, "LIMITS": None}):
            messages = run_checks(tags=["django_agent_sse"], include_deployment_checks=True)
    assert [message.id for message in messages] == ["django_agent_sse.W007", "django_agent_sse.W008"]
