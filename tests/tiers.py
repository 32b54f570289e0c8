"""Tiers of tests: what each one needs, as markers that are set here, and kept true by looking at what a test really starts.

Named as a pytest plugin by ``tests/conftest.py``. ``tox run -e quick`` runs what has none of these markers. A test is marked for
the fixtures that it asks for, for a parameter that chooses a server, and for where it stands in ``PLACES``. A test that starts a
process without the marker for it fails and is told which is missing: nobody has to think of this when writing one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TIERS = {
    "live": "it starts processes: servers, commands, forks",
    "browser": "it starts Chromium, Firefox, Node.js or npm",
    "services": "it asks a real PostgreSQL or MariaDB, or Valkey as Redis",
    "slow": "it computes or waits for seconds though it starts nothing",
}
FIXTURES = {
    "browser": "browser",
    "chromium": "browser",
    "new_project": "live",
    "node": "browser",
    "mariadb_database": "services",
    "postgres_url": "services",
    "redis_url": "services",
}
"""What a fixture brings to each test that asks for it, also where another fixture does."""
CHOICES = {"sse_run": "live"} | dict.fromkeys(
    ("postgres", "full_postgres", "mariadb", "redis", "redis-shards", "django-redis"), "services"
)
"""What a parameter brings by which a fixture or a test takes a server, or a command."""
PLACES = {
    "browser/": "browser live",
    "ledger/": "live services",
    "live/": "live",
    "live/test_browser.py": "browser",
    "live/test_proxies_in_browsers.py": "browser",
    "live/test_redis_faults.py": "services",
    "live/test_restarts.py": "services",
    "live/test_sdks.py": "browser",
    "access/test_own_users.py": "live",
    "eventlog/redis/": "services",
    "eventlog/database/test_processes.py": "live",
    "eventlog/test_latency.py": "live",
    "eventlog/test_search_patterns.py": "live",
    "runs/clients/": "live browser services",
    "runs/test_processes.py": "live",
    "monitor/test_banner.py": "live",
    "monitor/test_browser.py": "live",
    "monitor/test_closing.py": "live",
    "monitor/test_counts.py": "live",
    "monitor/test_not_installed.py": "live",
    "monitor/test_operating.py": "live",
    "monitor/test_page.py": "live",
    "monitor/test_rights.py": "live",
    "monitor/test_topics_live.py": "live",
    "monitor/test_zero.py": "live",
    "cost/test_live_lines.py": "live services",
    "docs/test_background_runs.py": "live services",
    "docs/test_clients.py": "live browser",
    "docs/test_javascript.py": "browser",
    "docs/test_llm_chat.py": "live browser",
    "docs/test_llm_sources.py": "live",
    "docs/test_notifications.py": "live browser",
    "docs/test_progress.py": "live browser",
    "docs/test_protocols.py": "live browser",
    "docs/test_readme.py": "live",
    "docs/test_tokens.py": "live",
    "docs/test_tutorial.py": "live browser",
    "docs/test_tutorial_admin.py": "live browser",
    "testproject/test_access.py": "live",
    "testproject/test_admin.py": "live",
    "testproject/test_clients.py": "live",
    "testproject/test_demo.py": "live",
    "testproject/test_hard.py": "live browser",
    "testproject/test_overview.py": "live",
    "testproject/test_page.py": "live",
    "testproject/test_processes.py": "live",
    "testproject/test_project.py": "live",
    "testproject/test_runs.py": "live",
    "testproject/test_servers.py": "live",
    "testproject/test_stores.py": "live services browser",
    "testproject/test_streams.py": "live",
    "testproject/test_triage.py": "live",
    "streams/test_django_tenants.py": "live",
    "streams/test_kv_sharing.py": "live",
    "streams/test_outputs.py": "live",
    "streams/test_shutdown.py": "live",
    "testing/test_log.py": "live",
    "test_background.py": "live",
    "test_package.py": "live",
    "test_together.py": "live",
    "test_warm.py": "live",
    "soak/": "live services",
    "cost/": "slow",
    "streams/test_memory.py": "slow",
    "views/test_client_inputs.py": "live slow",
    "wire/test_generated.py": "slow",
    "wire/test_roundtrip.py": "slow",
    "monitor/test_cost.py": "slow",
    # Single tests in files of tests that start nothing, or take no time.
    "admin/test_health_banner.py::test_a_redis_logs": "services",
    "admin/test_topics_page.py::test_more_topics_than_a_page": "slow",
    "admin/test_topics_page.py::test_what_a_topic_keeps_is_told": "services",
    "contrib/test_health.py::test_redis_that_goes_away": "services",
    "contrib/test_logging.py::test_after_a_fork": "live",
    "contrib/test_metrics.py::test_nothing_of_either_is_imported": "live",
    "docs/test_code.py::test_curl_prints": "live",
    "docs/test_code.py::test_every_route_of_a_page": "live",
    "docs/test_commands.py::test_servers_have_the_flags": "live",
    "docs/test_tasks.py::test_a_celery_task": "live",
    "eventlog/database/test_errors.py::test_a_full_disk": "live",
    "eventlog/notify/test_channel_layer.py::test_a_forked_child": "live",
    "eventlog/notify/test_databases.py::test_a_script_that_publishes": "live",
    "eventlog/notify/test_databases.py::test_parent_and_forked_child": "live",
    "eventlog/notify/test_databases.py::test_with_psycopg_2": "live",
    "eventlog/notify/test_pgbouncer.py": "live services",
    "runs/test_outsiders.py::test_a_forked_child": "live",
    "runtime/test_loop.py::test_a_forked_child": "live",
    "runtime/test_loop.py::test_the_end_of_a_process": "live",
    "runtime/test_pools.py::test_a_child_has_no_threads": "live",
    "eventlog/database/test_log.py::test_old_keys_are_deleted": "slow",
    "eventlog/database/test_log.py::test_what_is_too_much": "slow",
    "eventlog/test_contract.py::test_whatever_happens": "slow",
    "eventlog/database/test_log.py::test_a_child_of_a_fork": "live",
    "eventlog/notify/test_channel_layer.py::test_a_layer_that_is_stopped": "services",
    "eventlog/notify/test_channel_layer.py::test_a_redis_that_has_forgotten": "services",
    "eventlog/notify/test_channel_layer.py::test_a_script_whose_layer_is_down": "live",
    "eventlog/notify/test_channel_layer.py::test_the_notification_of_a_script": "live",
    "eventlog/notify/test_notifier.py::test_a_process_that_follows": "live",
    "eventlog/notify/test_notifier.py::test_after_a_fork": "live",
    "management/test_sse_tail_url.py::test_a_mistake_is_told": "live",
    "management/test_terminal.py::test_a_program_that_cannot_be_run": "live",
    "monitor/test_monitor.py::test_a_child": "live",
    "monitor/test_private_door.py::test_the_page_lives": "slow",
    "monitor/test_reporter.py::test_without_its_tables": "live",
    "streams/test_departures.py::test_looking_gives_up_no_lock": "live",
    "streams/test_following_several.py::test_sixteen_topics": "slow",
    "streams/test_kv.py::test_a_forked_child": "live",
    "streams/test_kv.py::test_c02_a_cache_that_is_down": "services",
    "streams/test_kv_keys.py::test_more_keys_than_one_batch": "slow",
    "streams/test_threads.py::test_a_forked_child": "live",
    "test_checks.py::test_a_project_without_a_database_that_asks": "live",
    "test_checks.py::test_w011_runserver_says": "live",
    "testing/test_client.py::test_a_handler_that_does_not_end": "slow",
    "testing/test_edges.py::test_a_flood": "live",
    "testproject/test_agent.py::test_any_report_of_pytest": "live",
    "testproject/test_agent.py::test_the_failing_tests_of_a_real_run": "live",
    "testproject/test_agent.py::test_the_lines_that_are_linked": "live",
    "testproject/test_locks.py::test_the_lock_is_the_heirs": "live",
    "topics/test_feeds.py::test_five_hundred_idle": "slow",
    "topics/test_publish.py::test_a_command_is_refused": "live",
    "topics/test_publish.py::test_a_server_may_publish": "live",
    "topics/test_subscription.py::test_after_a_fork": "live",
    "wire/test_decoder.py::test_a_mebibyte": "slow",
    "wire/test_encoder.py::test_the_wire_needs_no_django": "live",
}
"""What stands in a folder or a file, or has a name that begins so."""
PROGRAMS = {"node": "browser", "npm": "browser"} | dict.fromkeys(
    ("postgres", "initdb", "mariadbd", "mariadb-install-db", "valkey-server"), "services"
)
"""The marker for a program; others ask for ``live``."""
LOCAL = ("localhost", "127.0.0.1", "::1", "", None)
OWN_NETWORKS = ("198.18.", "198.19.")
"""Of namespaces on this machine, see ``tests/live/network.py``; they lead nowhere else (RFC 2544)."""


class TierError(AssertionError):
    """A test starts what its markers do not say."""


class Watch:
    """What the test that runs now starts, as Python's audit events tell it, also from its threads."""

    def __init__(self) -> None:
        self.markers: set[str] | None = None
        self.wrong: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook: it is called for every import and every opened file too, so it first looks at the name."""
        look = LOOKS.get(event)
        if look is None or self.markers is None:
            return
        if (found := look(*arguments)) and found[0] not in self.markers:
            self.wrong.append(f"{found[1]}: the marker {found[0]!r} is missing; name the test in PLACES of tests/tiers.py")
            raise TierError(self.wrong[-1])

    @contextmanager
    def over(self, item: pytest.Item) -> Iterator[None]:
        """Look while a part of the test runs; afterwards fail also where it went on in spite of the refusal."""
        self.markers, self.wrong = {marker.name for marker in item.iter_markers()}, []
        try:
            yield
            if "services" not in self.markers and (servers := SERVERS & {*item._request._fixture_defs}):  # type: ignore[attr-defined]
                self.wrong.append(
                    f"{min(servers)}: the marker 'services' is missing"
                )  # no public door tells of getfixturevalue()
        finally:
            self.markers = None
        if self.wrong:
            raise TierError(self.wrong[0])


def _program(executable: Any, arguments: Any, *_: Any) -> tuple[str, str]:
    name = Path(os.fsdecode(executable or (arguments if isinstance(arguments, str | bytes) else arguments[0]))).name
    return PROGRAMS.get(name, "browser" if "chrom" in name else "live"), f"it starts {name}"


def _fork(*_: Any) -> tuple[str, str]:
    return "live", "it forks"


def _connect(_: Any, address: Any) -> tuple[str, str] | None:
    return _lookup(address[0]) if isinstance(address, tuple) else None


def _lookup(host: Any, *_: Any) -> tuple[str, str] | None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in LOCAL or name.endswith(".invalid") or name.startswith(OWN_NETWORKS):
        return None
    return "outside", f"it asks {name}, which is not this machine"


LOOKS = {
    "subprocess.Popen": _program,
    "os.posix_spawn": _program,
    "os.exec": _program,
    "os.fork": _fork,
    "os.forkpty": _fork,
    "socket.connect": _connect,
    "socket.getaddrinfo": _lookup,
}
SERVERS = {name for name, tier in FIXTURES.items() if tier == "services"}
QUICK = f"not ({' or '.join(TIERS)})"
"""What ``tox run -e quick`` gives to ``-m``."""
watch = Watch()


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and begin to listen: a hook cannot be taken away again."""
    for name, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning} (tests/tiers.py)")
    sys.addaudithook(watch.hear)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what ``-m`` leaves out as a whole: it takes a third of the time that the rest takes to run."""
    place = collection_path.relative_to(HERE).as_posix() if collection_path.is_relative_to(HERE) else ""
    return (config.option.markexpr == QUICK and (place in PLACES or f"{place}/" in PLACES)) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests, before ``-m`` chooses among them."""
    for item in items:
        for name in tiers_of(item):
            item.add_marker(name)


def tiers_of(item: pytest.Item) -> set[str]:
    """What a test needs."""
    fixtures = set(getattr(item, "fixturenames", ()))
    tiers = {tier for name, tier in FIXTURES.items() if name in fixtures}
    if call := getattr(item, "callspec", None):
        tiers |= {CHOICES[value] for value in call.params.values() if type(value) is str and value in CHOICES}
    where = f"{item.path.relative_to(HERE)}::{item.nodeid.partition('::')[2]}"
    return tiers.union(*(words.split() for place, words in PLACES.items() if where.startswith(place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Look while fixtures are made."""
    with watch.over(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Look while the test runs."""
    with watch.over(item):
        return (yield)
