"""``manage.py sse_trim``: old events are dropped, topics forgotten."""

from __future__ import annotations

import os
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_agent_sse import Topic
from django_agent_sse.eventlog.backend import event_log

from .processes import Project


def trimmed(*words: str) -> list[str]:
    """The lines that the command prints."""
    out = StringIO()
    call_command("sse_trim", *words, stdout=out)
    return out.getvalue().splitlines()


def kept(topic: str) -> list[str]:
    """The data of a topic's events."""
    return [record.event.data for record in event_log().read_after(topic).records]


@pytest.fixture(autouse=True)
def topics(sse_log: Any) -> None:
    """``a.1`` and ``a.2`` of five events of ten bytes each, ``a.2`` closed, and ``b`` of one."""
    for name in ("a.1", "a.2"):
        Topic(name).publish_many([str(number) * 10 for number in range(1, 6)])
    Topic("a.2").close()
    Topic("b").publish("x")


def aged(topic: str, seconds: float, first: int = 5) -> None:
    """Make the first events of a topic older."""
    log: Any = event_log()
    found = log._topics_by_name[topic]
    for at, record in enumerate(found.records[:first]):
        found.records[at] = type(record)(record.offset, record.event, record.at - seconds)


@pytest.mark.parametrize(
    ("bound", "dropped"),
    [
        (["--max-events", "2"], 3),
        (["--max-events", "0"], 5),
        (["--max-events", "9"], 0),
        (["--max-bytes", "30"], 2),
        (["--max-bytes", "1"], 4),
        (["--max-bytes", "1k"], 0),
        (["--max-age", "1h"], 3),
        (["--max-age", "2d"], 0),
        (["--max-age", "1h", "--max-events", "1"], 4),
        (["--max-age", "1h", "--max-bytes", "40"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_dry_run_says_what_would_be_dropped_and_the_real_one_drops_it(bound: list[str], dropped: int) -> None:
    aged("a.1", 86_400, first=3)
    before = kept("a.1")
    assert trimmed("a.1", *bound, "--dry-run")[-1].endswith("would be dropped: this was a dry run")
    dry = trimmed("a.1", *bound, "--dry-run")
    assert kept("a.1") == before
    told = trimmed("a.1", *bound)
    assert kept("a.1") == before[dropped:]
    assert told[:-1] == dry[:-1] == ([f"a.1: {dropped} event{'s' if dropped > 1 else ''}"] if dropped else [])


def test_many_topics_are_trimmed_by_a_prefix_or_all(sse_log: Any) -> None:
    assert trimmed("--prefix", "a.", "--max-events", "4") == ["a.1: 1 event", "a.2: 1 event", "2 events of 2 topics were dropped"]
    assert trimmed("--all", "--max-events", "0")[-1] == "9 events of 3 topics were dropped"
    assert trimmed("--all", "--max-events", "0") == ["0 events of 0 topics were dropped"]


def test_closed_only_leaves_open_topics(sse_log: Any) -> None:
    assert trimmed("--all", "--closed-only", "--max-events", "0")[0] == "a.2: 5 events"
    assert len(kept("a.1")) == 5


def test_one_topic_is_forgotten_without_asking(sse_log: Any) -> None:
    assert trimmed("a.1", "--delete") == ["a.1: 5 events, 50 B", "1 topic with 5 events (50 B) was forgotten"]
    assert sse_log.topics == ["a.2", "b"]


def test_what_ended_long_ago_is_forgotten(sse_log: Any) -> None:
    """The line for cron."""
    aged("a.1", 86_400 * 4)
    aged("a.2", 86_400 * 4)
    words = ["--all", "--delete", "--closed-only", "--max-age", "3d"]
    assert trimmed(*words, "--dry-run")[-1] == "1 topic with 5 events (50 B) would be forgotten: this was a dry run"
    assert sse_log.topics == ["a.1", "a.2", "b"]
    assert trimmed(*words)[0] == "a.2: 5 events, 50 B"
    assert sse_log.topics == ["a.1", "b"]


def test_many_topics_are_not_forgotten_unasked(sse_log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match=r"this forgets 3 topics, from a\.1 to b, whatever their age: say --no-input"):
        trimmed("--all", "--delete")
    assert len(sse_log.topics) == 3
    assert trimmed("--all", "--delete", "--no-input")[-1] == "3 topics with 11 events (101 B) were forgotten"
    assert sse_log.topics == []


@pytest.mark.parametrize(("answer", "code", "left"), [(b"yes\n", 0, 0), (b"no\n", 1, 2), (b"\x04", 1, 2)])
def test_at_a_terminal_it_asks(project: Project, answer: bytes, code: int, left: int) -> None:
    for name in ("x", "y"):
        project.run("sse_publish", name, "data", "--quiet")
    leader, follower = os.openpty()
    try:
        run = project.start("sse_trim", "--all", "--delete", stdin=follower)
        run.said("This forgets 2 topics, from x to y. Type 'yes' to go on: ")
        os.write(leader, answer)
        assert run.code() == code
    finally:
        os.close(leader)
        os.close(follower)
    assert len(project.run("sse_topics", "--json").stdout.splitlines()) == left


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.1"], "nothing says what to drop: give --max-events"),
        (["nowhere", "--max-events", "1"], "there is no topic 'nowhere'; sse_topics lists those there are"),
        (["a.1", "--delete", "--max-events", "1"], "--delete forgets whole topics: with it only --max-age says which"),
        (["--prefix", "", "--max-events", "1"], "--prefix '' is every topic: write --all"),
        (["--max-events", "1"], "one of the arguments TOPIC --prefix --all is required"),
        (["a.1", "--all", "--max-events", "1"], "not allowed with argument"),
        (["a.1", "--max-age", "30"], "'30' is not a duration above 0: write a number with its unit"),
        (["a.1", "--max-age", "0d"], "not a duration above 0"),
        (["a.1", "--max-bytes", "10 apples"], "'10 apples' is not a size above 0"),
        (["a.1", "--max-events", "-1"], "-1"),
    ],
)
def test_a_mistake_is_told_with_the_mend(words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=r".*") as refused:
        trimmed(*words)
    assert said in str(refused.value)
    assert len(kept("a.1")) == 5
