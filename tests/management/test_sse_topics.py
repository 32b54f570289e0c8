"""``manage.py sse_topics``: what topics there are."""

from __future__ import annotations

import json
import re
import time
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from django_agent_sse import Event, Topic, event_log
from django_agent_sse.management.command import PAGE
from django_agent_sse.management.commands.sse_topics import age

from .processes import Project


def listed(*words: str) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("sse_topics", *words, stdout=out)
    return out.getvalue()


def test_a_table_shows_each_topic(sse_log: Any) -> None:
    Topic("builds.1").publish_many(["x" * 1500, "y"])
    Topic("builds.1").close("failed")
    Topic("news").publish("hello")
    heading, closed, opened, total = listed().splitlines()
    assert heading.split() == ["TOPIC", "STATE", "EVENTS", "BYTES", "OLDEST", "NEWEST", "REASON"]
    assert re.fullmatch(r"builds\.1  closed +2  1\.5 kB  +\d+ s ago +\d+ s ago  failed", closed), closed
    assert re.fullmatch(r"news      open +1 +5 B +\d+ s ago +\d+ s ago", opened), opened
    assert total == "2 topics, 3 events, 1.5 kB"
    assert heading.index("REASON") == closed.index("failed")


def test_a_prefix_chooses(sse_log: Any) -> None:
    for name in ("a.1", "a.2", "ab", "b"):
        Topic(name).publish("x")
    assert [line.split()[0] for line in listed("a.").splitlines()[1:-1]] == ["a.1", "a.2"]
    assert listed("c") == "No topic's name begins with 'c'.\n"


def test_no_topics_are_no_table(sse_log: Any) -> None:
    assert listed() == "There are no topics.\n"
    assert listed("--json") == ""


def test_all_pages_are_listed(sse_log: Any) -> None:
    names = [f"t{number:04}" for number in range(2 * PAGE + 1)]
    for name in names:
        Topic(name).publish("x")
    assert [json.loads(line)["topic"] for line in listed("--json").splitlines()] == names


def test_json_tells_everything_exactly(sse_log: Any) -> None:
    first, second = Topic("t").publish_many([Event("a"), Event("é", event="n")])
    Topic("t").close("at night")
    found = json.loads(listed("--json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("oldest_at"))
    assert found.pop("newest_at")
    assert found == {
        "topic": "t",
        "state": "closed",
        "reason": "at night",
        "epoch": first.epoch,
        "first": 1,
        "last": second.offset,
        "events": 2,
        "bytes": 4,
        "run": None,
    }


def test_runs_are_shown_with_their_leases_and_endings(sse_log: Any) -> None:
    Topic("plain").publish("x")
    log = event_log()
    log.acquire("runs.1", "run-one", 3000)
    log.acquire("runs.2", "run-two", 3000)
    log.request_stop("runs.2", "run-two")
    log.acquire("runs.3", "run-three", 100)
    log.close("runs.3", "finished", holder="run-three")
    log.acquire("runs.4", "run-four", 0.001)
    time.sleep(0.01)
    heading, *lines = (re.split("  +", line) for line in listed().splitlines()[:-1])
    assert heading[-3:] == ["RUN", "LEASE", "REASON"]
    assert lines[0][0] == "plain"
    assert len(lines[0]) == 6, "without a run"
    assert lines[1][-2] == "run-one"
    assert re.fullmatch(r"\d+ min \d+ s", lines[1][-1])
    assert lines[2][-2] == "run-two"
    assert re.fullmatch(r"\d+ min \d+ s, asked to stop", lines[2][-1])
    assert lines[3][1:3] == ["closed", "0"]
    assert lines[3][-2:] == ["run-three", "finished"]
    assert lines[4][1] == "closed", "whoever looks first closes a lost one"
    assert lines[4][-2:] == ["run-four", "lost"]
    runs = [json.loads(line)["run"] for line in listed("runs.", "--json").splitlines()]
    assert 0 < runs[0].pop("left") <= 3000
    assert runs[0] == {"id": "run-one", "stopping": False, "ending": None}
    assert runs[1]["stopping"]
    assert runs[2:] == [
        {"id": "run-three", "left": 0, "stopping": False, "ending": "finished"},
        {"id": "run-four", "left": 0, "stopping": False, "ending": "lost"},
    ]


def test_a_topic_without_events_has_no_ages(sse_log: Any) -> None:
    Topic("t").close()
    assert re.fullmatch(r"t      closed +0    0 B +- +-  completed", listed().splitlines()[1])
    assert json.loads(listed("--json"))["first"] is None


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0 s ago"), (-5, "0 s ago"), (119, "1 min 59 s ago"), (200_000, "2 d 7 h ago")]
)
def test_ages_are_those_of_the_admin(seconds: float, shown: str) -> None:
    assert age(1_000_000 - seconds, 1_000_000) == shown


def test_a_reader_who_has_seen_enough_ends_it_quietly(project: Project) -> None:
    for name in ("a", "b"):
        project.run("sse_publish", name, "x", "--quiet")
    done = project.shell("manage sse_topics | head -1")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_the_tables_are_missing_it_says_what_to_run(project: Project) -> None:
    done = project.run("sse_topics", SITE_DATABASE=str(project.folder / "other.sqlite3"))
    assert done.returncode == 1
    assert "run `manage.py migrate`" in done.stderr
    assert "Traceback" not in done.stderr
