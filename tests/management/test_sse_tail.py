"""``manage.py sse_tail``: a topic followed through the event log."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from io import StringIO
from typing import Any

import pyte
import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper

from django_agent_sse import Event, Topic
from django_agent_sse.eventlog.position import Position
from django_agent_sse.management.following import Tail
from django_agent_sse.management.output import Printer, Received
from django_agent_sse.models import LogTopic
from django_agent_sse.wire.redraws import Redraw

from .processes import PATIENCE, Project


def tailed(*words: str) -> tuple[str, str]:
    """What the command prints, and what it says."""
    out, err = StringIO(), StringIO()
    call_command("sse_tail", *words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def twenty(sse_log: Any) -> list[str]:
    """The topic ``t`` has 20 events, 1 to 20, and is closed; their ids."""
    ids = [str(position) for position in Topic("t").publish_many([str(number) for number in range(1, 21)])]
    Topic("t").close("at night")
    return ids


# Where it begins


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ([], 11),
        (["-n", "3"], 18),
        (["--lines", "100"], 1),
        (["--from-start"], 1),
        (["--live"], 21),
        (["-n", "0"], 21),
        (["--after", "15"], 16),
        (["--after", "0"], 1),
        (["--after", "20"], 21),
        (["--after", "ID 15"], 16),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("follow", [[], ["--no-follow"]], ids=["followed", "not followed"])
def test_it_begins_where_it_is_told_to(twenty: list[str], words: list[str], first: int, follow: list[str]) -> None:
    words = [twenty[14] if word == "ID 15" else word for word in words]
    out, err = tailed("t", *words, *follow)
    assert out.split() == [str(number) for number in range(first, 21)]
    assert err == "sse_tail: the topic is closed: at night\n"


def test_without_following_an_open_topic_is_printed_and_that_is_it(sse_log: Any) -> None:
    Topic("t").publish_many(["a", "b"])
    assert tailed("t", "--no-follow") == ("a\nb\n", "")


def test_an_id_of_an_earlier_topic_of_that_name_is_told(twenty: list[str]) -> None:
    Topic("t").delete()
    Topic("t").publish("new")
    out, err = tailed("t", "--after", twenty[14], "--no-follow")
    assert out == "new\n"
    assert err == "sse_tail: the topic 't' is another one of that name: it goes on with the first event of this one\n"


def test_what_was_trimmed_is_told(sse_log: Any) -> None:
    Topic("t").publish_many([str(number) for number in range(1, 21)])
    call_command("sse_trim", "t", "--max-events", "3", stdout=StringIO())
    out, err = tailed("t", "--after", "5", "--no-follow")
    assert out.split() == ["18", "19", "20"]
    assert err == "sse_tail: 12 events were trimmed from the topic before being read here\n"
    assert tailed("t", "--from-start", "--no-follow")[1] == "", "who asks for what is there has lost nothing"


# How it prints


def test_lines_stand_alone_and_other_events_have_their_names(sse_log: Any) -> None:
    names = [None, "message", "stdout", "stderr", "tick"]
    Topic("t").publish_many([Event("one\ntwo", event=name) for name in names])
    assert tailed("t", "--no-follow")[0] == "one\ntwo\n" * 4 + "tick: one\n      two\n"


def test_json_has_one_object_a_line(sse_log: Any) -> None:
    position = Topic("t").publish(Event("é\n1", event="n", retry=5))
    (line,) = tailed("t", "--json", "--no-follow")[0].splitlines()
    found = json.loads(line)
    assert list(found) == ["id", "event", "data", "retry", "at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("at"))
    assert found == {"id": str(position), "event": "n", "data": "é\n1", "retry": 5}
    assert "é" in line


class Terminal(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def shown(data: str, event: str | None = None, **options: Any) -> str:
    """What a terminal gets of an event."""
    out = Terminal()
    Printer(OutputWrapper(out), **options).show([Received(id="1", event=Event(data, event=event), at=0.0)])
    return out.getvalue()


def test_a_terminal_gets_colours_unless_it_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shown("x", "stderr") == "\x1b[31mx\x1b[0m\n"
    assert re.fullmatch(r"\x1b\[\d\dmtick:\x1b\[0m x\n", shown("x", "tick"))
    assert shown("\x1b[32mgreen", "stdout") == "\x1b[32mgreen\x1b[0m\n"
    assert shown("\x1b[32mgreen", "stderr", colour=False) == "green\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown("x", "stderr") == "x\n"
    assert shown("x", "stderr", colour=True) == "\x1b[31mx\x1b[0m\n"


def test_what_could_take_a_terminal_over_is_shown_and_not_done() -> None:
    assert shown("a\x1b]0;title\x07b\x1b[2Jc\rd\te\x9bf", colour=True) == "a\\x1b]0;title\\x07b\\x1b[2Jc\nd\te\\x9bf\n"
    assert shown("a\u202eb\u200bc", colour=True) == "a\\u202eb\\u200bc\n"
    assert shown("x", "a\x1b[2J\x1b[31m", colour=False) == "a\\x1b[2J\\x1b[31m: x\n"


def test_into_a_file_everything_goes_as_it_is(sse_log: Any) -> None:
    Topic("t").publish("a\x1b[31mb\x07")
    assert tailed("t", "--no-follow")[0] == "a\x1b[31mb\x07\n"


def test_colours_can_be_forced_and_forbidden(project: Project) -> None:
    project.run("sse_run", "t", "--", "sh", "-c", "echo x >&2")
    assert "\x1b[31mx\x1b[0m\n" in project.run("sse_tail", "t", "--force-color").stdout
    assert "\x1b" not in project.run("sse_tail", "t", "--no-color").stdout
    assert "\x1b" not in project.run("sse_tail", "t").stdout


# How it ends


def test_a_reader_who_has_seen_enough_ends_it_quietly_also_while_nothing_comes(project: Project) -> None:
    project.run("sse_publish", "t", stdin=b"1\n2\n3\n")
    done = project.shell("manage sse_tail t | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize("topic", ["t", "unknown"])
def test_ctrl_c_ends_it_with_130_and_without_a_traceback(project: Project, topic: str) -> None:
    project.run("sse_publish", "t", "1")
    tail = project.start("sse_tail", topic)
    tail.printed("1\n") if topic == "t" else tail.said("waiting for its first event")
    tail.signal(signal.SIGINT)
    assert tail.code() == 130
    assert "Traceback" not in tail.err


@pytest.mark.parametrize(("code", "reason"), [(0, "completed"), (3, "failed")])
def test_with_exit_code_it_ends_as_the_command_did(project: Project, code: int, reason: str) -> None:
    tail = project.start("sse_tail", "t", "--exit-code")
    tail.said("there is no topic")
    project.run("sse_run", "t", "--", "sh", "-c", f"exit {code}")
    assert tail.code() == code
    assert f"the topic is closed: {reason}" in tail.err
    assert project.run("sse_tail", "t", "--exit-code", "--live").returncode == code


def test_with_exit_code_a_topic_without_one_ends_by_its_reason(project: Project) -> None:
    for topic, reason, code in (("a", "completed", 0), ("b", "broken", 1)):
        project.run("sse_publish", topic, "x", f"--close={reason}")
        assert project.run("sse_tail", topic, "--exit-code").returncode == code
        assert project.run("sse_tail", topic).returncode == 0


def test_a_topic_that_is_deleted_ends_it(project: Project) -> None:
    project.run("sse_publish", "t", "1")
    tail = project.start("sse_tail", "t")
    tail.printed("1\n")
    project.run("sse_trim", "t", "--delete")
    assert tail.code() == 0
    assert tail.err == "sse_tail: the topic was deleted\n"


# Topics that are not there


def test_an_unknown_topic_is_waited_for_and_a_similar_name_is_told(project: Project) -> None:
    project.run("sse_publish", "builds.42", "x")
    tail = project.start("sse_tail", "build.42")
    tail.said("there is no topic 'build.42' yet: waiting for its first event. Did you mean 'builds.42'?\n")
    project.run("sse_publish", "build.42", "here", "--close")
    assert tail.code() == 0
    assert tail.out == "here\n"


def test_without_following_an_unknown_topic_is_a_mistake(sse_log: Any) -> None:
    with pytest.raises(CommandError, match=r"there is no topic 't'\. There are no topics at all yet\."):
        tailed("t", "--no-follow")


def test_where_no_name_is_similar_the_command_that_lists_topics_is_named(sse_log: Any) -> None:
    Topic("news").publish("x")
    with pytest.raises(CommandError, match=r"there is no topic 'builds\.42'\. sse_topics lists those there are\.$"):
        tailed("builds.42", "--no-follow")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["t", "--after", "21"], "the topic 't' ends at 20, which is before 21"),
        (
            ["t", "--after", "yesterday"],
            "--after 'yesterday' is not a position in a topic: give an event's id, as in FvyLkmab.17",
        ),
        (["t", "--after", ""], "is not the id of an event"),
        (["t", "-n", "-1"], "-1"),
        (["t", "-n", "1", "--live"], "not allowed with argument"),
        (["caf\u00e9"], "printable ASCII"),
        (["t", "-H", "A: b"], "--header and --cookie are sent to a URL, and 't' is a topic"),
    ],
)
def test_a_mistake_is_told_with_the_mend(twenty: list[str], words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=r".*") as refused:
        tailed(*words)
    assert said in str(refused.value)


# A log that is away


def test_it_goes_on_when_the_log_is_back(project: Project) -> None:
    project.run("sse_publish", "t", "1")
    tail = project.start("sse_tail", "t")
    tail.printed("1\n")
    table = LogTopic._meta.db_table
    with closing(sqlite3.connect(project.environment["SITE_DATABASE"], timeout=PATIENCE)) as connection:
        connection.execute(f'alter table "{table}" rename to "elsewhere"')
        tail.said("It will be tried again until it answers")
        connection.execute(f'alter table "elsewhere" rename to "{table}"')
    tail.said("the event log answers again")
    project.run("sse_publish", "t", "2", "--close")
    assert tail.code() == 0
    assert tail.out == "1\n2\n"
    assert len(tail.err.splitlines()) == 3


def test_a_log_that_cannot_be_read_from_the_first_is_a_mistake(project: Project) -> None:
    done = project.run("sse_tail", "t", SITE_DATABASE=str(project.folder / "other.sqlite3"))
    assert done.returncode == 1
    assert "run `manage.py migrate`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_of_another_process_is_refused_with_the_mend(new_project: Callable[..., Project]) -> None:
    project = new_project("django_agent_sse.eventlog.memory.MemoryEventLog")
    for command in (["sse_tail", "t"], ["sse_publish", "t", "x"], ["sse_topics"], ["sse_trim", "--all", "--max-events", "1"]):
        done = project.run(*command)
        assert done.returncode == 1
        assert done.stderr.startswith("CommandError: MemoryEventLog keeps its topics in the memory of one process")
        assert "sse_tail http://" in done.stderr


# How it waits


def test_it_looks_soon_after_something_came_and_seldom_when_nothing_does(sse_log: Any) -> None:
    from django_agent_sse.eventlog.backend import event_log

    log = event_log()
    log.append("t", Event("1"))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) in (20, 25):
            log.append("t", Event("more"))
        if len(pauses) == 30:
            log.close("t")

    tail = Tail(log, "t", Position(log.state("t").epoch, 0), tell=print, pause=pause)
    assert sum(map(len, tail.batches())) == 3
    assert pauses[0] == pauses[20] == pauses[25] == 0.025
    assert max(pauses) == pauses[19] == 0.5
    assert pauses == sorted(pauses[:20]) + sorted(pauses[20:25]) + sorted(pauses[25:])


def test_lines_of_another_process_are_seen_soon(project: Project) -> None:
    tail = project.start("sse_tail", "t", "--json")
    tail.said("there is no topic")
    code = "import time\nfor n in range(20): print(time.time()); time.sleep(0.1)"
    begun = time.monotonic()
    assert project.run("sse_run", "t", "--quiet", "--", sys.executable, "-c", code).returncode == 0
    assert tail.code() == 0
    assert time.monotonic() - begun < PATIENCE
    events = [json.loads(line) for line in tail.out.splitlines()]
    assert [event["event"] for event in events] == ["stdout"] * 20 + ["exit"]


# Only some lines


@pytest.fixture
def build(sse_log: Any) -> None:
    """The topic ``t`` has 60 lines, some of them errors and warnings, and is closed."""
    named = {10: "ERROR: one", 20: "warning: two", 50: "ERROR: Three"}
    Topic("t").publish_many([named.get(number, f"line {number}") for number in range(1, 61)])
    Topic("t").close()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--errors"], "ERROR: one|ERROR: Three"),
        (["--level", "warning"], "ERROR: one|warning: two|ERROR: Three"),
        (["--grep", "three"], "ERROR: Three"),
        (["--grep", "three", "--case"], ""),
        (["--grep", "o", "--errors"], "ERROR: one|ERROR: Three"),
        (["--errors", "-n", "1"], "ERROR: Three"),
        (["--errors", "-n", "0"], ""),
        (["--errors", "--after", "10"], "ERROR: Three"),
        (["--errors", "--live"], ""),
        (["--grep", "two", "-C", "1"], "line 19|warning: two|line 21"),
        (["--errors", "-C", "2", "-n", "1"], "line 48|line 49|ERROR: Three|line 51|line 52"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_only_lines_that_are_asked_for_are_printed(build: None, words: list[str], lines: str) -> None:
    out, _ = tailed("t", *words)
    assert "|".join(out.split("\n")[:-1]) == lines


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["t", "-E"], "about --grep"),
        (["t", "-C", "3"], "-C is for --grep"),
        (["t", "--grep", "x", "-C", "21"], "20 at most"),
        (["t", "--grep", "x" * 501], "500 characters"),
        (["http://127.0.0.1:9/", "--errors"], "are for topics"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_for_is_said(build: None, words: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        tailed(*words)


def test_lines_that_come_later_are_looked_at_too(project: Project) -> None:
    with project.reading():
        Topic("t").publish_many(["ERROR: before", "fine"])
    tail = project.start("sse_tail", "t", "--errors", "-C", "1")
    tail.printed("ERROR: before\nfine\n")
    with project.reading():
        Topic("t").publish_many([*(f"line {number}" for number in range(300)), "ERROR: now", "after", "last"])
        Topic("t").close()
    assert tail.code() == 0
    assert tail.out == "ERROR: before\nfine\nline 299\nERROR: now\nafter\n"


# What is drawn again


def test_of_lines_that_were_drawn_again_the_end_is_printed(sse_log: Any) -> None:
    topic = Topic("t")
    topic.publish_many([Event("a 0", event="stdout"), Redraw(1, "a 1").event("stdout"), Event("oops", event="stderr")])
    assert tailed("t", "--no-follow") == ("oops\na 1\n", "")
    topic.publish_many([Redraw(0, "").event("stdout"), Event("a 2", event="stdout")])
    topic.close()
    assert tailed("t")[0] == "oops\na 2\n"
    objects = [json.loads(line)["event"] for line in tailed("t", "--json")[0].split("\n") if line]
    assert objects == ["stdout", "replace", "stderr", "replace", "stdout"], "programs get what there is"


def test_what_is_about_other_lines_is_not_counted(sse_log: Any) -> None:
    lines = [[Event(f"line {n}", event="info"), Event("{}", event="record")] for n in range(30)]
    Topic("t").publish_many([event for pair in lines for event in pair])
    assert tailed("t", "-n", "3", "--no-follow")[0] == "line 27\nline 28\nline 29\n"
    assert len(tailed("t", "-n", "3", "--no-follow", "--json")[0].splitlines()) == 3


def test_on_a_terminal_a_draft_stands_below_the_lines_until_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.delenv("TERM", raising=False)
    written = StringIO()
    written.isatty = lambda: True  # type: ignore[method-assign]
    printer = Printer(OutputWrapper(written))
    screen = pyte.Screen(20, 10)

    def shown(*lines: str, drafts: list[str]) -> list[str]:
        printer.show([Received(id="", event=Event(line), at=0.0) for line in lines], drafts)
        pyte.Stream(screen).feed(written.getvalue().replace("\n", "\r\n"))
        written.seek(0)
        written.truncate()
        return [line.rstrip() for line in screen.display if line.strip()]

    assert shown("one", drafts=["10%", ""]) == ["one", "10%"]
    assert shown("two", drafts=["20%", "\x1b[31mbusy\x1b[2J" + "x" * 90]) == ["one", "two", "20%", "busy\\x1b[2Jxxxxxxxx"]
    assert shown(drafts=["a\nb\nc\nd\ne\nf"]) == ["one", "two", "c", "d", "e", "f"]
    assert shown("three", drafts=["", ""]) == ["one", "two", "three"]
    shown(drafts=["50%"])
    printer.keep_drafts()
    assert shown("four", drafts=["60%"]) == ["one", "two", "three", "50%", "four", "60%"]
