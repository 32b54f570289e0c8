"""``manage.py sse_run`` in processes of its own."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import IO, Any

import pytest

from django_agent_sse.models import LogTopic
from tests.timing import LONG

from .processes import PATIENCE, Project, poll

PYTHON = sys.executable
MANY = 100_000 if LONG else 20_000


def script(code: str) -> list[str]:
    """A command that runs this Python."""
    return [PYTHON, "-c", code]


def exit_of(project: Project, topic: str) -> dict[str, Any]:
    """The data of the topic's last event, which is ``exit``."""
    last = project.events(topic)[-1]
    assert last["event"] == "exit"
    return dict(json.loads(last["data"]))


def gone(pid: int) -> bool:
    """Whether there is no such process any more."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def unread(pipe: IO[bytes]) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


# What it publishes


def test_what_a_command_prints_is_followed_by_another_process_while_it_runs(project: Project) -> None:
    tail = project.start("sse_tail", "builds.1")
    tail.said("there is no topic 'builds.1' yet")
    run = project.start("sse_run", "builds.1", "--", "sh", "-c", "echo one; echo two >&2; read line; echo $line", stdin=-1)
    tail.printed("one\n")
    tail.printed("two\n")
    assert run.process.poll() is None
    assert run.process.stdin
    run.process.stdin.write(b"three\n")
    run.process.stdin.close()
    assert (run.code(), tail.code()) == (0, 0)
    assert set(tail.out.split("\n")[:3]) == {"one", "two", "three"}
    assert "exit: {" in tail.out
    assert "the topic is closed: completed" in tail.err


def test_lines_have_the_name_of_where_they_were_printed_and_the_last_event_tells_the_code(project: Project) -> None:
    done = project.run("sse_run", "t", "--", "sh", "-c", "echo out; sleep 2; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    events = [(event["event"], event["data"]) for event in project.events("t")]
    assert events[:-1] == [("stdout", "out"), ("stderr", "err")]
    told = exit_of(project, "t")
    assert (told["code"], told["signal"]) == (3, None)
    assert 0.2 <= told["seconds"] < PATIENCE
    assert project.state("t")["reason"] == "failed"


def test_the_command_finds_the_topic_and_its_input(project: Project) -> None:
    done = project.run("sse_run", "t", "--quiet", "--", "sh", "-c", "cat; echo $SSE_TOPIC", stdin=b"given\n")
    assert done.stdout == ""
    assert project.lines("t") == ["given", "t"]


def test_python_programs_are_read_line_by_line_while_they_run(project: Project) -> None:
    run = project.start("sse_run", "t", "--", *script("print('first'); input()"), stdin=-1)
    run.printed("first\n")
    assert run.process.stdin
    run.process.stdin.close()
    assert run.code() == 1  # EOFError


def test_a_great_many_lines_arrive_in_order(new_project: Callable[..., Project]) -> None:
    project = new_project(MAX_EVENTS=2 * MANY)
    done = project.run("sse_run", "t", "--", "seq", str(MANY))
    assert done.returncode == 0
    assert done.stdout.count("\n") == MANY
    assert project.lines("t") == [str(number) for number in range(1, MANY + 1)]
    assert "could not be published" not in done.stderr


def test_bytes_that_are_no_utf8_are_replaced_and_echoed_as_they_are(project: Project) -> None:
    argv = project.argv("sse_run", "t", "--", "printf", r"caf\351\nna\303\257ve\n\303")
    run = project.start(argv=argv)
    assert run.code() == 0
    assert project.lines("t") == ["caf\ufffd", "na\u00efve", "\ufffd"]
    assert run._out.read_bytes() == b"caf\xe9\nna\xc3\xafve\n\xc3"


def test_a_line_of_three_mebibytes_goes_on_as_further_lines(project: Project) -> None:
    code = "import sys; sys.stdout.write('é' * (3 * 2**19) + '\\nend\\n')"
    assert project.run("sse_run", "t", "--quiet", "--", *script(code)).returncode == 0
    *pieces, end = project.lines("t")
    assert "".join(piece.removesuffix("…") for piece in pieces) == "é" * (3 * 2**19)
    assert [piece[-1] for piece in pieces] == ["…", "…", "…", "é"]  # an event holds 1 MiB with its name
    assert end == "end"


def test_a_progress_bar_is_one_line_and_what_it_shows_meanwhile_is_a_draft(project: Project) -> None:
    code = "import sys\nfor n in range(601): sys.stdout.write(f'\\r{n}%')\nprint()\nprint('done')"
    assert project.run("sse_run", "t", "--quiet", "--", *script(code)).returncode == 0
    events = project.events("t")
    assert [event["data"] for event in events if event["event"] == "stdout"] == ["600%", "done"]
    drafts = [json.loads(event["data"]) for event in events if event["event"] == "replace"]
    assert drafts == [] or drafts[-1] == {"source": "stdout", "lines": 0, "text": ""}
    (seconds,) = [json.loads(event["data"])["seconds"] for event in events if event["event"] == "exit"]
    assert len(drafts) <= seconds + 4


def test_rows_that_are_drawn_again_are_lines_once_and_the_state_in_between_comes_without_more_output(project: Project) -> None:
    go_on = project.folder / "go on"
    code = f"""
import pathlib, sys, time
print("pull a: 0"); print("pull b: 0")
for n in range(1, 41): sys.stdout.write(f"\\x1b[2A\\x1b[2Kpull a: {{n}}\\n\\x1b[2Kpull b: {{n}}\\n")
sys.stdout.flush()
while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)
print("end")
"""
    run = project.start("sse_run", "t", "--quiet", "--", *script(code))
    poll("the topic", lambda: project.state("t"))
    poll("the last state", lambda: "pull b: 40" in "".join(event["data"] for event in project.events("t")))
    go_on.touch()
    assert run.code() == 0
    events = project.events("t")
    assert project.run("sse_tail", "t", "--from-start").stdout.split("\n")[:3] == ["pull a: 40", "pull b: 40", "end"]
    assert len(events) < 20


# How it ends


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (["true"], 0, "completed"),
        (["sh", "-c", "exit 200"], 200, "failed"),
        (["sh", "-c", "kill -9 $$"], 137, "failed"),
        (["no-such-program"], 127, "failed"),
        (["/etc/passwd"], 126, "failed"),
    ],
    ids=["0", "200", "SIGKILL", "not found", "not executable"],
)
def test_it_ends_with_the_code_of_the_command(project: Project, command: list[str], code: int, reason: str) -> None:
    done = project.run("sse_run", "t", "--", *command)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    told = exit_of(project, "t")
    assert (told["code"], told["signal"]) == (code, "SIGKILL" if code == 137 else None)
    assert project.state("t")["reason"] == reason


def test_why_a_command_cannot_be_started_is_said_and_published(project: Project) -> None:
    done = project.run("sse_run", "t", "--", "no-such-program")
    assert done.stderr == "sse_run: no-such-program: No such file or directory\n"
    assert project.lines("t", "stderr") == ["no-such-program: No such file or directory"]


COUNTS_SIGNALS = """
import select, signal, sys, time
def count(number, frame): print(signal.Signals(number).name)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"): signal.signal(getattr(signal, name), count)
print("ready")
deadline = time.monotonic() + 300
while time.monotonic() < deadline:
    # A signal that comes just before a read that waits is only heeded after it.
    if select.select([sys.stdin], [], [], 0.1)[0]:
        line = sys.stdin.readline()
        if not line:
            sys.exit(7)
        print(line.strip())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_reaches_the_command_once_also_where_a_terminal_sends_it(project: Project, name: str) -> None:
    """A terminal signals the whole foreground process group, as ``killpg`` does here."""
    run = project.start("sse_run", "t", "--", *script(COUNTS_SIGNALS), stdin=-1)
    run.printed("ready\n")
    os.killpg(run.process.pid, getattr(signal, name))
    run.printed(name)
    assert run.process.stdin
    run.process.stdin.write(b"go on\n")
    run.process.stdin.close()
    assert run.code() == 7
    assert project.lines("t") == ["ready", name, "go on"]
    assert project.state("t")["reason"] == "cancelled"


TOLD_ON_ANOTHER_THREAD = """
import os, signal, sys, threading
from django_agent_sse.management.subprocess_runner import Signals, run

def take(source, data):
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

signals = Signals()
with signals.taken():
    ended = run(["sh", "-c", "echo ready; sleep 30"], dict(os.environ), take, signals)
print(ended.signal, signals.received)
"""


def test_a_signal_that_the_system_gives_to_another_thread_is_passed_on_at_once(project: Project) -> None:
    done = project.start(argv=script(TOLD_ON_ANOTHER_THREAD))
    assert done.code(within=25) == 0, "its command sleeps for 30 s"
    assert (done.out, done.err) == ("SIGTERM ['SIGTERM']\n", "")


def test_what_it_was_started_to_ignore_is_not_passed_on_and_cancels_nothing(project: Project) -> None:
    """As ``nohup`` starts it, and a shell without job control with ``&``."""
    command = project.argv("sse_run", "t", "--", *script(COUNTS_SIGNALS))
    run = project.start(argv=["sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh", *command], stdin=-1)
    run.printed("ready\n")
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        os.killpg(run.process.pid, number)
    assert run.process.stdin
    run.process.stdin.write(b"go on\n")
    run.process.stdin.close()
    assert run.code() == 7
    assert project.lines("t") == ["ready", "go on"]
    assert project.state("t")["reason"] == "failed"


def test_who_is_told_to_end_ends_with_its_command_and_what_that_started(project: Project) -> None:
    run = project.start("sse_run", "t", "--", "sh", "-c", "sleep 600 & echo $! $$; wait")
    poll("both are there", lambda: len(run.out.split()) == 2)
    pids = [int(pid) for pid in run.out.split()]
    run.signal(signal.SIGTERM)
    assert run.code() == 128 + signal.SIGTERM
    poll("both are gone", lambda: all(map(gone, pids)))
    assert exit_of(project, "t")["signal"] == "SIGTERM"
    assert project.state("t")["reason"] == "cancelled"


def test_killed_itself_it_leaves_what_was_printed_in_an_open_topic(project: Project) -> None:
    endless = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.02; done"
    run = project.start("sse_run", "t", "--", "sh", "-c", f"echo $$; {endless}")
    run.printed("\n20\n")
    poll("the topic", lambda: project.state("t"))
    poll("half of them are published", lambda: len(project.lines("t")) > 10)
    run.signal(signal.SIGKILL)
    assert run.code() == -signal.SIGKILL
    shell = int(run.out.split()[0])
    poll("the command is gone, as nobody reads it any more", lambda: gone(shell))
    _shell, *lines = project.lines("t")
    assert lines == [str(number) for number in range(1, len(lines) + 1)]
    assert len(lines) >= 10
    assert project.state("t")["state"] == "open"
    assert project.run("sse_run", "t", "--", "echo", "again").returncode == 0
    assert project.lines("t")[-1] == "again"


IGNORES = "trap '' TERM INT HUP; echo $$; while :; do sleep 0.05; done"
LEAVES_NOTHING = "--kill-after=0.5s"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program", ["echo $$; exec sleep 600", IGNORES], ids=["obedient", "ignoring"])
def test_with_kill_after_nothing_outlives_it_however_it_ends(project: Project, program: str, number: int) -> None:
    run = project.start("sse_run", "t", LEAVES_NOTHING, "--", "sh", "-c", f"({program}) & {program}")
    poll("both are there", lambda: len(run.out.split()) == 2)
    pids = [int(pid) for pid in run.out.split()]
    run.signal(number)
    run.code()
    poll("both are gone", lambda: all(map(gone, pids)))
    if number != signal.SIGKILL:
        assert project.state("t")["reason"] == "cancelled"
        assert exit_of(project, "t")["signal"] == ("SIGKILL" if program is IGNORES else signal.Signals(number).name)


def test_with_kill_after_what_a_command_leaves_behind_is_gone_when_it_ends(project: Project) -> None:
    begun = time.monotonic()
    done = project.run("sse_run", "t", "--kill-after=1m", "--", "sh", "-c", "sleep 600 & echo $!; exit 3")
    assert time.monotonic() - begun < PATIENCE
    assert (done.returncode, done.stderr) == (3, "")
    assert gone(int(done.stdout))


def test_with_kill_after_a_command_gets_a_signal_once_and_time_to_end(project: Project) -> None:
    run = project.start("sse_run", "t", "--kill-after=1m", "--", *script(COUNTS_SIGNALS), stdin=-1)
    run.printed("ready\n")
    run.signal(signal.SIGTERM)
    run.printed("SIGTERM\n")
    assert run.process.stdin
    run.process.stdin.close()
    assert run.code() == 7
    assert project.lines("t") == ["ready", "SIGTERM"]


def test_what_a_command_leaves_behind_does_not_keep_it(project: Project) -> None:
    begun = time.monotonic()
    done = project.run("sse_run", "t", "--", "sh", "-c", "sleep 600 & echo $!")
    assert time.monotonic() - begun < PATIENCE
    assert done.returncode == 0
    assert "still holds its output" in done.stderr
    os.kill(int(done.stdout), signal.SIGKILL)
    assert project.state("t")["reason"] == "completed"


def test_who_prints_for_ever_does_not_keep_it_either(project: Project) -> None:
    done = project.run("sse_run", "t", "--", "sh", "-c", "yes & echo $! >&2")
    assert done.returncode == 0
    poll("its output was closed", lambda: gone(int(done.stderr.split()[0])))


def test_it_ends_though_what_is_left_behind_is_being_printed_where_nobody_reads(project: Project) -> None:
    run = project.start("sse_run", "t", "--", "sh", "-c", "yes & echo $! >&2", stdout=subprocess.PIPE)
    stuck = run.process.stdout
    assert stuck is not None
    with stuck:
        run.said("\n")
        left = int(run.err.split()[0])
        poll("the pipe is full", lambda: (held := unread(stuck)) and not time.sleep(0.5) and held == unread(stuck))
        run.signal(signal.SIGTERM)
        assert run.code() == 0, run.err
    poll("its output was closed", lambda: gone(left))


def test_output_that_nobody_reads_keeps_the_command_from_nothing(project: Project) -> None:
    done = project.shell("manage sse_run t -- seq 20000 | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert len(project.lines("t")) == 20_000


# Topics that were there before


def test_a_closed_topic_is_refused_before_the_command_runs(project: Project) -> None:
    project.run("sse_run", "t", "--", "true")
    done = project.run("sse_run", "t", "--", "touch", "made")
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: the topic 't' is closed (completed)")
    assert "--replace" in done.stderr
    assert not (project.folder / "made").exists()


def test_with_replace_the_topic_begins_anew(project: Project) -> None:
    for word in ("first", "second"):
        assert project.run("sse_run", "t", "--replace", "--", "echo", word).returncode == 0
    assert project.lines("t") == ["second"]


def test_with_keep_open_several_commands_share_a_topic(project: Project) -> None:
    project.run("sse_run", "t", "--keep-open", "--", "echo", "first")
    assert project.state("t")["state"] == "open"
    project.run("sse_run", "t", "--", "echo", "second")
    assert project.lines("t") == ["first", "second"]
    assert project.state("t")["reason"] == "completed"


def test_a_command_goes_on_where_somebody_else_closes_its_topic(project: Project) -> None:
    run = project.start("sse_run", "t", "--", "sh", "-c", "echo first; read line; seq 3; exit 4", stdin=-1)
    poll("the line is there", lambda: project.state("t"))
    project.run("sse_publish", "t", "--close=enough")
    assert run.process.stdin
    run.process.stdin.close()
    assert run.code() == 4
    assert run.out == "first\n1\n2\n3\n"
    assert "is closed (enough)" in run.err
    assert "4 events of this command could not be published" in run.err


# Wrong lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["t"], "there is no command to run"),
        (["t", "--"], "there is no command to run"),
        (["t", "make", "-j4"], "give the command after --"),
        (["", "--", "true"], "the topic has 0 characters"),
        (["caf\u00e9", "--", "true"], "printable ASCII"),
    ],
    ids=["no command", "nothing behind --", "no --", "empty topic", "no ASCII"],
)
def test_a_wrong_line_is_told_how_it_is_meant(project: Project, words: list[str], said: str) -> None:
    done = project.run("sse_run", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_stands_behind_the_dashes_is_the_commands(project: Project) -> None:
    done = project.run("sse_run", "--quiet", "t", "--keep-open", "--", "echo", "--quiet", "--", "--settings=x", "-v")
    assert done.returncode == 0
    assert project.lines("t") == ["--quiet -- --settings=x -v"]


# A log that is away


@contextmanager
def without_tables(project: Project) -> Iterator[None]:
    """As where somebody forgot to migrate."""
    table = LogTopic._meta.db_table
    _rename(project, table, "elsewhere")
    yield
    _rename(project, "elsewhere", table)


def _rename(project: Project, old: str, new: str) -> None:
    with closing(sqlite3.connect(project.environment["SITE_DATABASE"], timeout=PATIENCE)) as connection:
        connection.execute(f'alter table "{old}" rename to "{new}"')


def test_a_command_goes_on_while_the_log_is_away_and_its_lines_are_published_afterwards(project: Project) -> None:
    run = project.start("sse_run", "t", "--", "sh", "-c", "echo 1; read line; seq 2 5; read line; exit 6", stdin=-1)
    poll("the first line is there", lambda: project.state("t"))
    assert run.process.stdin
    with without_tables(project):
        run.process.stdin.write(b"\n")
        run.process.stdin.flush()
        run.said("cannot publish")
        run.printed("5\n")
        assert "migrate" in run.err
    run.said("the event log is back")
    run.process.stdin.close()
    assert run.code() == 6
    assert project.lines("t") == ["1", "2", "3", "4", "5"]
    assert "could not be published" not in run.err


def test_a_log_that_is_away_keeps_no_command_from_running(project: Project) -> None:
    with without_tables(project):
        begun = time.monotonic()
        done = project.run("sse_run", "t", "--", "sh", "-c", "echo made > made; exit 5")
        assert time.monotonic() - begun < PATIENCE
    assert done.returncode == 5
    assert (project.folder / "made").exists()
    assert "cannot publish" in done.stderr
    assert "run `manage.py migrate`" in done.stderr
    assert "1 event of this command could not be published" in done.stderr


def test_a_database_that_is_held_by_others_holds_up_nothing_but_the_events(project: Project) -> None:
    with closing(sqlite3.connect(project.environment["SITE_DATABASE"], timeout=PATIENCE, isolation_level=None)) as connection:
        run = project.start("sse_run", "t", "--", "sh", "-c", "read line; echo 1; echo 2; touch done; read line", stdin=-1)
        connection.execute("begin immediate")
        assert run.process.stdin
        run.process.stdin.write(b"\n")
        run.process.stdin.flush()
        poll("the command has gone on", (project.folder / "done").exists)
        connection.execute("rollback")
    run.process.stdin.close()
    assert run.code() == 1  # that of `read` at the end of its input
    assert project.lines("t") == ["1", "2"]


def test_a_log_of_another_process_is_refused_with_the_mend(new_project: Callable[..., Project]) -> None:
    project = new_project("django_agent_sse.eventlog.memory.MemoryEventLog")
    done = project.run("sse_run", "t", "--", "touch", "made")
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: MemoryEventLog keeps its topics in the memory of one process")
    assert "DatabaseEventLog" in done.stderr
    assert not (project.folder / "made").exists()
