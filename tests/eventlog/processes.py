"""Real processes around one log: short scripts with settings of their own, and their output."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import warm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0

BEGIN = """
import asyncio, json, os, sys, threading, time
import django
from django.conf import settings
given = json.loads(sys.argv[1])
settings.configure(**{"INSTALLED_APPS": ["django_agent_sse"], "DATABASES": {}, **given})
django.setup()
from django_agent_sse import apublish, close_topic, publish
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.notify.notifier import notifier
"""


def shared(file: Path) -> dict[str, Any]:
    """``AGENT_SSE`` for a log in a file."""
    return {"EVENT_LOG": {"BACKEND": "tests.eventlog.shared.SharedEventLog", "OPTIONS": {"FILE": str(file)}}}


def arguments(code: str, settings: Mapping[str, Any], before: str = "") -> list[str]:
    """A script with these settings, for ``subprocess``; ``before`` runs before anything is imported."""
    return [sys.executable, "-m", "tests.program", before + BEGIN + textwrap.dedent(code), json.dumps(settings)]


async def run(code: str, **settings: Any) -> str:
    """Run it to its end, which must be a clean one; return what it printed."""

    def wait() -> Any:
        return warm.run(arguments(code, settings), capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=False)

    done = await asyncio.to_thread(wait)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
