"""``manage.py sse_publish``: one event, or one for each line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from django_agent_sse.management.commands.sse_publish import BATCH_LINES, batches_of

from .processes import PATIENCE, Project, poll


def test_one_event_is_published_and_its_id_printed(project: Project) -> None:
    done = project.run("sse_publish", "news", "We are open", "--event", "opening")
    assert (done.returncode, done.stderr) == (0, "")
    (event,) = project.events("news")
    assert (event["event"], event["data"], event["id"]) == ("opening", "We are open", done.stdout.strip())


def test_quiet_prints_nothing(project: Project) -> None:
    done = project.run("sse_publish", "news", "x", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(project.events("news")) == 1


def test_data_that_begins_with_a_dash_stands_behind_two(project: Project) -> None:
    assert project.run("sse_publish", "n", "--", "-1").returncode == 0
    assert project.events("n")[0]["data"] == "-1"


def test_json_is_published_without_its_spaces_and_otherwise_as_it_is_written(project: Project) -> None:
    given = r'{ "a" : [1.10, 1e400, 12345678901234567890.0],' + "\n" + r'"b c": " \" \\", "é": null }'
    assert project.run("sse_publish", "n", given, "--json").returncode == 0
    assert project.events("n")[0]["data"] == r'{"a":[1.10,1e400,12345678901234567890.0],"b c":" \" \\","é":null}'


@pytest.mark.parametrize("given", ["{'a': 1}", "", "NaN", "{} {}"])
def test_what_is_no_json_is_refused(project: Project, given: str) -> None:
    done = project.run("sse_publish", "n", given, "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: it is not JSON: ")
    assert project.state("n") == {}


def test_the_same_key_appends_once(project: Project) -> None:
    first, second = (project.run("sse_publish", "n", "x", "--key", "k").stdout for _ in range(2))
    assert first == second != ""
    assert len(project.events("n")) == 1


# Lines


def test_each_line_of_standard_input_is_an_event(project: Project) -> None:
    done = project.run("sse_publish", "n", "--event", "line", stdin=b"one\n\nthree\r\nfour")
    assert done.returncode == 0
    assert [event["data"] for event in project.events("n")] == ["one", "", "three", "four"]
    assert [event["id"] for event in project.events("n")] == done.stdout.split()


@pytest.mark.parametrize("given", [b"", b"\n"], ids=["nothing", "an empty line"])
def test_no_lines_are_no_events(project: Project, given: bytes) -> None:
    assert project.run("sse_publish", "n", "-", stdin=given).returncode == 0
    assert project.state("n").get("events", 0) == given.count(b"\n")


def test_lines_are_published_as_they_come(project: Project) -> None:
    run = project.start("sse_publish", "n", stdin=subprocess.PIPE)
    assert run.process.stdin
    for number in range(1, 4):
        run.process.stdin.write(f"{number}\n".encode())
        run.process.stdin.flush()
        run.printed(f".{number}\n")
    run.process.stdin.close()
    assert run.code() == 0


def test_many_lines_are_appended_together(project: Project) -> None:
    begun = time.monotonic()
    done = project.run("sse_publish", "n", "--quiet", stdin=b"".join(b"%d\n" % number for number in range(20_000)))
    assert done.returncode == 0
    assert time.monotonic() - begun < PATIENCE
    assert [event["data"] for event in project.events("n")] == [str(number) for number in range(20_000)]


def test_lines_that_cannot_be_published_are_told_by_their_numbers_and_the_others_are(project: Project) -> None:
    lines = [b'{"n": 1}', b"nope", b'"\xff"', b"[2]", b'"' + b"x" * 1_100_000 + b'"', b"3"]
    done = project.run("sse_publish", "n", "--json", stdin=b"\n".join(lines))
    assert done.returncode == 1
    assert [json.loads(event["data"]) for event in project.events("n")] == [{"n": 1}, [2], 3]
    told = done.stderr.splitlines()
    assert told[0].startswith("sse_publish: line 2 was not published: it is not JSON: ")
    assert told[1].startswith("sse_publish: line 3 was not published: it is not UTF-8")
    assert told[2].startswith("sse_publish: line 5 was not published: event 0 has 1,100,002 bytes")
    assert told[3] == "CommandError: 3 lines were not published"


def test_without_json_bytes_that_are_no_utf8_are_replaced(project: Project) -> None:
    assert project.run("sse_publish", "n", stdin=b"caf\xe9\n").returncode == 0
    assert project.events("n")[0]["data"] == "caf\ufffd"


def test_lines_with_a_key_are_published_once_also_by_a_second_run(project: Project) -> None:
    project.run("sse_publish", "n", "--key", "import", stdin=b"a\nb\n")
    project.run("sse_publish", "n", "--key", "import", stdin=b"a\nb\nc\n")
    assert [event["data"] for event in project.events("n")] == ["a", "b", "c"]


def test_where_the_topic_was_closed_it_says_from_which_line_on_nothing_was_published(project: Project) -> None:
    run = project.start("sse_publish", "n", stdin=subprocess.PIPE)
    assert run.process.stdin
    run.process.stdin.write(b"1\n2\n")
    run.process.stdin.flush()
    run.printed(".2\n")
    project.run("sse_publish", "n", "--close=enough")
    run.process.stdin.write(b"3\n4\n")
    run.process.stdin.close()
    assert run.code() == 1
    assert "line 3 and those after it were not published: the topic 'n' is closed (enough)" in run.err
    assert "(sse_trim n --delete deletes it)" in run.err


def test_ctrl_c_ends_it_with_130_and_without_a_traceback(project: Project) -> None:
    run = project.start("sse_publish", "n", stdin=subprocess.PIPE)
    assert run.process.stdin
    run.process.stdin.write(b"1\n")
    run.process.stdin.flush()
    run.printed(".1\n")
    run.signal(signal.SIGINT)
    assert run.code() == 130
    assert run.err == ""


def test_batches_hold_so_many_lines_and_no_more() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as out:
        out.write(b"x\n" * (BATCH_LINES * 2 + 1))
    with os.fdopen(reading, "rb") as source:
        batches = list(batches_of(source, 1_000))
    assert max(map(len, batches)) == BATCH_LINES
    assert [number for batch in batches for number, _ in batch] == list(range(1, BATCH_LINES * 2 + 2))


# The end of a topic


def test_a_topic_is_closed_after_the_last_event(project: Project) -> None:
    assert project.run("sse_publish", "n", "bye", "--close=at night").returncode == 0
    assert project.state("n")["reason"] == "at night"
    assert len(project.events("n")) == 1


def test_closing_alone_reads_no_lines(project: Project) -> None:
    run = project.start("sse_publish", "n", "--close", stdin=subprocess.PIPE)
    assert run.code() == 0, "although nobody closes its input"
    assert project.state("n")["reason"] == "completed"


def test_a_topic_that_was_closed_before_keeps_its_reason(project: Project) -> None:
    project.run("sse_publish", "n", "--close=first")
    done = project.run("sse_publish", "n", "--close=second")
    assert done.returncode == 0
    assert done.stderr == "sse_publish: the topic 'n' was closed before: first\n"


# Mistakes


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["caf\u00e9", "x"], 2, "printable ASCII"),
        (["n" * 201, "x"], 2, "201 characters"),
        (["n", "x", "--event", "a\nb"], 2, "event holds a line feed at character 2 of 3"),
        (["sse.monitor.commands", "x"], 2, "reserved"),
        (["n", "x", "--event", "sse.end"], 2, "reserved"),
        (["n", "x", "--key", "k" * 201], 1, "a str of 1 to 200 characters"),
        (["n", "x", "--close=caf\u00e9"], 2, "printable ASCII"),
        (["n", "x" * 100_000, "--event", "e" * 120_000], 0, ""),
        ([], 2, "the following arguments are required: TOPIC"),
    ],
    ids=[
        "no ASCII",
        "too long",
        "line feed",
        "topic of the package",
        "event of the package",
        "long key",
        "reason",
        "large",
        "nothing",
    ],
)
def test_a_mistake_is_a_sentence(project: Project, words: list[str], code: int, said: str) -> None:
    done = project.run("sse_publish", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_where_the_tables_are_missing_it_says_what_to_run(project: Project) -> None:
    done = project.run("sse_publish", "n", "x", SITE_DATABASE=str(project.folder / "other.sqlite3"))
    assert done.returncode == 1
    assert "run `manage.py migrate`" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in project.run("sse_publish", "n", "x", "--traceback", SITE_DATABASE="/x/y").stderr


def test_a_terminal_is_not_waited_for(project: Project) -> None:
    leader, follower = os.openpty()
    try:
        run = project.start("sse_publish", "n", stdin=follower)
        assert run.code() == 1
        assert "there is nothing to publish: give DATA, or lines on standard input" in run.err
        run = project.start("sse_publish", "n", "-", stdin=follower)
        os.write(leader, b"typed\n")
        run.printed(".1\n")
        os.write(leader, b"\x04")
        assert run.code() == 0
    finally:
        os.close(leader)
        os.close(follower)
    poll("the line is there", lambda: [event["data"] for event in project.events("n")] == ["typed"])
