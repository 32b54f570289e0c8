"""The health banner on sites that are wrong in earnest: several workers over a memory log, a channel layer that is away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.servers import poll
from tests.services import free_port

from .serving import PATIENCE, STAFF, MonitorSite, running_site
from .test_page import seen

MEMORY = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}


def said(browser: httpx.Client) -> dict[str, dict[str, str]]:
    """What the banner says."""
    return {one["key"]: one for one in seen(browser)["notices"]}


def finds(browser: httpx.Client, key: str) -> Callable[[], Any]:
    return lambda: said(browser).get(key)


@pytest.mark.parametrize(("workers", "key"), [(2, "memory-workers"), (1, "memory")])
def test_workers_that_a_memory_log_does_not_reach_are_counted(workers: int, key: str, tmp_path: Path) -> None:
    with running_site(tmp_path, workers, cold=True, SITE_AGENT_SSE=json.dumps(MEMORY)) as site, site.signed_in("looks") as looks:
        found = poll("it says so", finds(looks, key), within=PATIENCE, every=0.2)
        if workers > 1:
            assert found["title"] == "MemoryEventLog keeps topics in one process, and 2 processes serve this site."
            assert found["title"] in looks.get(STAFF).text
        else:
            assert found["level"] == "info"
            assert "memory-workers" not in said(looks)


def test_a_channel_layer_that_is_away_is_a_notifier_that_does_not_notify(tmp_path: Path) -> None:
    address = f"redis://:planted-secret@127.0.0.1:{free_port()}/0"
    layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [address]}}
    with running_site(tmp_path, SITE_CHANNEL_LAYERS=json.dumps({"default": layer})) as site:
        follow(site)
        with site.signed_in("looks") as looks:
            found = poll("it says so", finds(looks, "channel_layer"), within=PATIENCE, every=0.2)
            assert "up to half a second later" in found["hint"]
            assert "Error" in found["hint"], "of which kind it is"
            assert "planted-secret" not in looks.get(STAFF).text


def follow(site: MonitorSite) -> None:
    """Have something followed, and published to."""
    site.open("builds/7/log/", wait=False)
    site.open("publish/7/")
