"""What a server says about itself, and what that means for topics in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from ...exceptions import EventLogUnavailable
from ..records import StoreWarning
from .server import Server

OLDEST = (6, 2)
"""The first Redis that trims a stream by its ids."""
CANNOT_TELL = "?"


def findings(server: Server) -> Iterator[StoreWarning]:
    """Yield what bears on the log's promise; one warning where the server cannot be asked."""
    try:
        info = server.ask(_info)
    except EventLogUnavailable as error:
        yield StoreWarning("unusable", str(error), "Nothing can be published or followed until that is fixed.")
        return
    yield from _unusable(server.named, info)
    yield from _evicts(server.named, info)
    yield from _forgets(server.named, info)


def _info(client: Any) -> dict[str, Any]:
    info: dict[str, Any] = client.info("everything")
    try:
        info["save"] = client.config_get("save").get("save", CANNOT_TELL)
    except redis.exceptions.ResponseError:  # hosted servers have no CONFIG, or not for everybody
        info["save"] = CANNOT_TELL
    return info


def _unusable(named: str, info: Mapping[str, Any]) -> Iterator[StoreWarning]:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        yield StoreWarning("unusable", f"the server of {named} is Redis {version}", "Take Redis 6.2 or Valkey 7.2, at least.")
    if info.get("cluster_enabled"):
        yield StoreWarning(
            "unusable",
            f"the server of {named} is part of a Redis Cluster, which is not supported",
            "List several single servers in 'url' instead: topics are dealt out among them.",
        )
    if info.get("role") == "slave":
        yield StoreWarning("unusable", f"the server of {named} is a read-only replica", "Name the primary, or Sentinels.")


def _evicts(named: str, info: Mapping[str, Any]) -> Iterator[StoreWarning]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", 0) > 0:
        yield StoreWarning(
            "evicts",
            f"the server of {named} makes room by evicting keys (maxmemory-policy {policy}). All keys of topics expire, so "
            "it may take any of them: their followers are told (sse.gap), but the events are gone",
            "Keep topics on a server of their own with maxmemory-policy noeviction; when that is full, publish() fails "
            "and says so.",
        )


def _forgets(named: str, info: Mapping[str, Any]) -> Iterator[StoreWarning]:
    if info.get("aof_enabled") or info["save"] == CANNOT_TELL:
        return
    if info["save"]:
        what = (
            f"the server of {named} writes snapshots only (save {info['save']}): when it crashes, what was published since the "
            "last one is gone, and followers are told (sse.gap, reason fork)"
        )
    else:
        what = (
            f"the server of {named} keeps nothing on disk: when it restarts, all topics are gone, and followers are told "
            "(sse.gap, reason epoch)"
        )
    yield StoreWarning("forgets", what, "Set appendonly yes: at most a second is lost then; none with appendfsync always.")
