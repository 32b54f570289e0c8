"""The real django-tenants: a project of its own in a process of its own, since its engine must be the default database's."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).resolve().parents[2]
LONG = bool(os.environ.get("LONG_PROOFS"))
SECONDS = 20 if LONG else 0.7


@pytest.mark.parametrize("wrapped", ["", "wrap"], ids=["plain", "wrap"])
@pytest.mark.parametrize("way", ["on_connection", "pinned", "nothing"])
def test_no_stream_reads_as_another_tenant(postgres_url: str, way: str, wrapped: str) -> None:
    host = postgres_url.partition("host=")[2]
    done = warm.run(
        [sys.executable, "-m", "tests.streams.tenants_project", host, way, wrapped, str(SECONDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["wrong"] == []
    assert told["tenants"] == 8
    assert told["readings"] > 50
    if LONG:
        print(f"\ndjango-tenants, {way} {wrapped or 'plain'}: {told['readings']} readings in {SECONDS} s, 0 of another tenant")
