"""Tiers of tests: the markers are set and true, and ``tox.ini`` and the guide for contributors name the same ones."""

from __future__ import annotations

import configparser
import os
import re
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from . import tiers
from .services import redis_binary
from .tiers import HERE, PLACES, QUICK, TIERS, TierError, Watch, pytest_ignore_collect

ROOT = HERE.parent
WHATEVER = {"NO_SUCH": "environment"}


def item(*markers: str, fixtures: tuple[str, ...] = ()) -> Any:
    """A test with these markers, which has asked for these fixtures."""
    return SimpleNamespace(
        iter_markers=lambda: [SimpleNamespace(name=name) for name in markers],
        _request=SimpleNamespace(_fixture_defs=dict.fromkeys(fixtures)),
    )


@pytest.mark.parametrize(
    ("start", "tier"),
    [
        (lambda: subprocess.run(["true"], check=True), "live"),
        (lambda: subprocess.run("true", shell=True, check=True), "live"),
        (lambda: os.posix_spawn("/bin/true", ["true"], WHATEVER), "live"),
        (lambda: os._exit(1) if os.fork() == 0 else None, "live"),
        (lambda: subprocess.run(["chromium", "--version"], check=True), "browser"),
        (lambda: subprocess.run(["npm", "--version"], check=True), "browser"),
        (lambda: subprocess.run([redis_binary(), "--version"], check=True), "services"),
        (lambda: socket.create_connection(("192.0.2.1", 9), timeout=0.01), "outside"),
        (lambda: socket.getaddrinfo("example.com", 443), "outside"),
    ],
    ids=["a program", "a shell", "posix_spawn", "a fork", "chromium", "npm", "valkey", "a connection", "a name"],
)
def test_what_a_test_without_the_marker_starts_is_refused(start: Callable[[], Any], tier: str) -> None:
    """This test has none of them."""
    with pytest.raises(TierError, match=f"the marker '{tier}' is missing"):
        start()
    assert len(tiers.watch.wrong) == 1
    tiers.watch.wrong.clear()


def test_who_swallows_the_refusal_fails_all_the_same() -> None:
    watch = Watch()
    missing = pytest.raises(TierError, match="it forks: the marker 'live' is missing")
    with missing, watch.over(item("services")), suppress(AssertionError):
        watch.hear("os.fork", ())


def test_a_server_that_another_test_has_started_is_seen_too() -> None:
    missing = pytest.raises(TierError, match="postgres_url: the marker 'services' is missing")
    with missing, Watch().over(item("live", fixtures=("tmp_path", "postgres_url"))):
        pass


def test_with_the_marker_nothing_is_said() -> None:
    watch = Watch()
    with watch.over(item("live", "services", fixtures=("redis_url",))):
        watch.hear("os.fork", ())
        watch.hear("subprocess.Popen", ("/usr/bin/python3", ["python3"], None, None))
        watch.hear("subprocess.Popen", ("/somewhere/bin/postgres", ["postgres"], None, None))
        watch.hear("socket.connect", (None, ("127.0.0.1", 6379)))
        watch.hear("socket.connect", (None, "/tmp/.s.PGSQL.5432"))
    watch.hear("os.fork", ())  # no test runs


@pytest.mark.parametrize("place", PLACES)
def test_each_place_is_there_and_its_markers_are_known(place: str) -> None:
    path, _, name = place.partition("::")
    assert (HERE / path).exists()
    assert not name or re.search(rf"^(async )?def {name}", (HERE / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert set(PLACES[place].split()) <= set(TIERS)


def test_the_markers_of_this_run_are_those_that_are_registered(request: pytest.FixtureRequest) -> None:
    lines = [str(line).partition(":")[0] for line in request.config.getini("markers")]
    assert set(TIERS) <= set(lines)
    assert request.config.getoption("strict_markers")


def test_quick_runs_what_has_no_marker_and_test_runs_all_of_it() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    assert f'-m "{QUICK}"' in parser["testenv:quick"]["commands"]
    assert "commands" not in parser["testenv:test"]
    assert " -m " not in parser["testenv"]["commands"].removeprefix("\npython -m")


@pytest.mark.parametrize(
    ("place", "left_out"),
    [
        ("live", True),
        ("test_package.py", True),
        ("live/test_cuts.py", None),
        ("streams", None),
        ("test_tiers.py", None),
        ("", None),
    ],
)
def test_what_quick_leaves_out_as_a_whole_is_not_imported(place: str, left_out: bool | None) -> None:
    def ignored(expression: str) -> bool | None:
        return pytest_ignore_collect(HERE / place, SimpleNamespace(option=SimpleNamespace(markexpr=expression)))  # type: ignore[arg-type]

    assert ignored(QUICK) is left_out
    assert ignored("") is ignored("not live") is None


def test_the_guide_for_contributors_tells_each_tier() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^- `(\w+)`: (.*)\.$", guide, re.MULTILINE)) == TIERS
