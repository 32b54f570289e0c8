"""What a stream, a server or a log says never acts on the terminal of who reads it: every control character in every place."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import socketserver
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyte
import pytest
import trustme
from django.core.management import load_command_class

from django_agent_sse import Event, Topic
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.management import remote
from tests.tls import tls_before

C0 = "".join(map(chr, range(0x20)))
C1 = "".join(map(chr, range(0x7F, 0xA0)))
UNSEEN = (
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069"
)
EVERY = "".join(f"<{one}>" for one in C0 + C1 + UNSEEN + "\ufeff")
ATTACKS = (
    "\x1b]0;OWNED\x07\x1b]2;OWNED\x1b\\\x9d0;OWNED\x9c"  # titles
    "\x1b[2J\x1b[H\x1b[3J\x9b2J\x1bc\x1b[1;1HOWNED"  # clear, home, reset
    "\x1b]52;c;T1dORUQ=\x07\x1bP+q544e\x1b\\\x1b[5n\x1b[c\x1b]8;;http://x/\x07"  # clipboard, answers, links
    "\x1b[8m\x1b[?1049h\x1b[?25l\x1b(0\x0e"
    "ok\rOWNED\b\b\b\x7f \u202egnp.exe \u2066x"
)
WORST = EVERY + ATTACKS
LINE = WORST.translate({0: None, 10: None, 13: None})
"""What one line of an event stream can hold."""
HEAD = LINE.encode().decode("latin-1").translate({0x85: None})
"""The same in a head, where bytes are Latin-1."""
SENTINEL = "the line before"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
SGR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A pseudo-terminal with an emulator that shows what was written to it."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.out = os.fdopen(os.dup(self._slave), "w", encoding="utf-8", errors="backslashreplace")
        self.err = os.fdopen(os.dup(self._slave), "w", encoding="utf-8", errors="backslashreplace")
        self.write(f"{SENTINEL}\n")

    def write(self, text: str) -> None:
        """Write as a program does."""
        self.out.write(text)
        self.out.flush()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the other side was closed
            while part := os.read(self._master, 65536):
                self._parts.append(part)

    def close(self) -> str:
        """What it got."""
        if not self.out.closed:
            self.out.close()
            self.err.close()
            os.close(self._slave)
            self._reader.join(60)
            os.close(self._master)
        return b"".join(self._parts).decode()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY", 0.01)
    monkeypatch.delenv("NO_COLOR", raising=False)


def told(terminal: Terminal, *words: str, colour: bool = True) -> str:
    """What a command writes to a terminal, as ``manage.py`` runs it; nothing of it may have acted."""
    command: Any = load_command_class("django_agent_sse", words[0])
    command.__init__(stdout=terminal.out, stderr=terminal.err)
    with contextlib.suppress(SystemExit):
        command.run_from_argv(["manage.py", *words, "--force-color" if colour else "--no-color"])
    got = terminal.close()
    harmless(got)
    return got.removeprefix(f"{SENTINEL}\n")


def harmless(got: str) -> None:
    """It holds no control characters but line ends, tabs and colours, and an emulator shows every line where it was written."""
    assert set(CONTROL.findall(SGR.sub("", got))) <= {"\n", "\t"}, got
    plain = SGR.sub("", got).removesuffix("\n").split("\n")
    screen = pyte.Screen(max(len(line.expandtabs(8)) for line in plain) + 1, len(plain) + 1)
    titles: list[str] = []
    screen.set_title = screen.set_icon_name = titles.append  # type: ignore[method-assign]
    written: list[str] = []
    screen.write_process_input = written.append  # type: ignore[method-assign]
    modes = set(screen.mode)
    pyte.Stream(screen).feed(got.replace("\n", "\r\n"))
    assert (titles, written, set(screen.mode)) == ([], [], modes)
    assert (screen.cursor.y, screen.cursor.x) == (len(plain), 0)
    assert [line.rstrip() for line in screen.display[: len(plain)]] == [line.expandtabs(8).rstrip() for line in plain]
    assert screen.display[0].startswith(SENTINEL)


@contextlib.contextmanager
def answering(*replies: bytes) -> Iterator[int]:
    """A port that sends the next of these bytes to each connection, and hangs up."""
    left = list(replies)

    class Reply(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(left.pop(0) if len(left) > 1 else left[0])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Reply) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join(60)


def head(status: str = "200 OK", kind: str = "text/event-stream", **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def frames(text: str) -> bytes:
    return head() + text.encode()


def control(name: str, **about: object) -> bytes:
    """A control event, and nothing after it; ``ensure_ascii`` spells what UTF-8 cannot."""
    return frames(f"event: sse.{name}\nretry: 1\ndata: {json.dumps(about)}\n\n")


GONE = b"HTTP/1.1 204 No Content\r\n\r\n"
EVIL = WORST + "\ud800"
REPLIES: dict[str, list[bytes]] = {
    "data": [frames("".join(f"data: {line}\n" for line in re.split("[\r\n]", WORST)) + "\n")],
    "data of a named event": [frames(f"event: tick\ndata: {LINE}\ndata: {LINE}\n\n")],
    "stderr": [frames(f"event: stderr\ndata: {LINE}\n\n")],
    "event": [frames(f"event: {LINE}\ndata: x\n\n")],
    "id": [frames(f"id: {LINE}\ndata: x\n\n")],
    "comment": [frames(f": {LINE}\n\ndata: x\n\n")],
    "retry": [frames(f"retry: {LINE}\ndata: x\n\n")],
    "fields of other names": [frames(f"{LINE}: {LINE}\n{LINE}\ndata: x\n\n")],
    "sse.end": [control("end", reason=EVIL, closed=EVIL)],
    "sse.gap": [control("gap", reason=EVIL, missed=EVIL)],
    "sse.gap of a kind": [control("gap", reason={"a": [EVIL]}, missed=10**300)],
    "sse.error": [control("error", reason=EVIL, message=EVIL)],
    "sse.error that is no object": [frames(f"event: sse.error\nretry: 1\ndata: {LINE}\n\n")],
    "sse.overloaded": [control("overloaded", reason=EVIL)],
    "sse.position": [control("position", position=EVIL)],
    "reason of a refusal": [head(f"418 {HEAD}")],
    "reason of a fault": [head(f"503 {HEAD}")],
    "a status line that is none": [f"{HEAD}\r\n\r\n".encode("latin-1")],
    "another status line that is none": [f"HTTP/1.1 {HEAD}\r\n\r\n".encode("latin-1")],
    "content type": [head(kind=HEAD.replace("<", "/", 1))],
    "content type with a slash": [head(kind="text/\x1b[2J\x9b2J\x1b]0;OWNED\x07")],
    "header": [head("403 Forbidden", X_Reason=HEAD, Retry_After=HEAD)],
    "retry-after": [head("503 Busy", Retry_After=HEAD)],
    "a header's name": [b"HTTP/1.1 200 OK\r\n" + f"{HEAD}: x\r\n\r\n".encode("latin-1")],
    "an HTML body": [head(kind="text/html") + f"{WORST}".encode()],
    "a JSON body": [head("403 Forbidden", "application/json") + json.dumps({"error": {"message": EVIL}}).encode()],
    "a JSON body of 200": [head(kind="application/json") + json.dumps({"error": EVIL}, ensure_ascii=True).encode()],
    "location": [head("302 Found", Location=f"http://127.0.0.1/{HEAD}")],
    "location's host": [head("302 Found", Location=f"http://{HEAD}/")],
    "location of another kind": [head("302 Found", Location=f"ftp://x/{HEAD}")],
    "location beyond ASCII": [head("302 Found", Location="http://127.0.0.1:9/\u00a0\u00ad\u00e9")],
    "location in brackets": [head("302 Found", Location=f"//[{HEAD}")],
}


@pytest.mark.parametrize("colour", [True, False], ids=["colours", "no colours"])
@pytest.mark.parametrize("place", REPLIES)
def test_nothing_that_a_server_sends_acts_on_the_terminal(terminal: Terminal, place: str, colour: bool) -> None:
    with answering(*REPLIES[place], GONE) as port:
        got = told(terminal, "sse_tail", f"http://127.0.0.1:{port}/", colour=colour)
    assert got, "something is told of each"
    assert "OWNED" not in SGR.sub("", got).split("\n"), "no line is its own"


@pytest.mark.parametrize("place", ["data", "event", "id"])
def test_json_has_every_character_and_no_control(terminal: Terminal, place: str) -> None:
    with answering(*REPLIES[place], GONE) as port:
        line, *_ = told(terminal, "sse_tail", f"http://127.0.0.1:{port}/", "--json", colour=False).split("\n")
    found = json.loads(line)[place]
    assert found == (re.sub("[\r\n]", "\n", WORST) if place == "data" else LINE)


def test_a_certificate_that_is_not_trusted_is_told(terminal: Terminal) -> None:
    evil = trustme.CA(organization_name=LINE[:60], organization_unit_name=ATTACKS[:60])
    with answering(GONE) as port, tls_before(port, evil.issue_cert("*.example.org", common_name=ATTACKS[:60])) as tls:
        assert "is not trusted" in told(terminal, "sse_tail", f"https://127.0.0.1:{tls}/")


@pytest.fixture
def hostile_log(sse_log: Any, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """A log whose topics were written past every check, as whoever reaches its store can."""
    Topic("t").publish_many([Event(WORST), Event(LINE, event=LINE), Event(LINE, event="stderr")])
    Topic("t").close("done")
    log = event_log()
    states = log.state
    monkeypatch.setattr(log, "topics", lambda *args, after="", **about: [] if after else [f"t{WORST}", WORST])
    monkeypatch.setattr(log, "state", lambda name: _closed_so(states("t")))
    monkeypatch.setattr(log, "trim", lambda *args, **about: 1)
    monkeypatch.setattr(log, "delete", lambda *args, **about: True)
    return log


def _closed_so(state: Any) -> Any:
    fields = {name: getattr(state, name) for name in type(state).__slots__} if hasattr(type(state), "__slots__") else vars(state)
    known = {name: getattr(state, name) for name in ("exists", "events") if hasattr(state, name)}
    return SimpleNamespace(**{**fields, **known, "closed": WORST})


def _away(*args: Any, **about: Any) -> Any:
    raise EventLogUnavailable(f"the store says {WORST}")


def test_nothing_in_a_topic_acts_on_the_terminal(terminal: Terminal, sse_log: Any) -> None:
    Topic("t").publish_many([Event(WORST), Event(LINE, event=LINE, id=None), Event(LINE, event="stderr")])
    Topic("t").close("done")
    got = told(terminal, "sse_tail", "t", "--from-start")
    assert "\\x1b]0;OWNED\\x07" in got
    assert "\\u202egnp.exe" in got
    assert "\x1b[8m" in got, "colours and the like are the stream's own, on lines"


@pytest.mark.parametrize(
    "words",
    [
        ("sse_topics",),
        ("sse_topics", "--json"),
        ("sse_trim", "--all", "--max-events", "1"),
        ("sse_trim", "--all", "--delete", "--no-input"),
        ("sse_trim", "--all", "--delete"),
        ("sse_publish", "t", "x", "--close"),
        ("sse_run", "t", "--", "true"),
        ("sse_tail", "t", "--from-start"),
        ("sse_tail", "nearly-t", "--no-follow"),
    ],
    ids=" ".join,
)
def test_nothing_in_a_log_acts_on_the_terminal(
    terminal: Terminal, hostile_log: EventLog, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert run(terminal, words)


@pytest.mark.parametrize("verb", ["state", "topics", "append", "trim", "read_after"])
@pytest.mark.parametrize(
    "words",
    [("sse_topics",), ("sse_trim", "t", "--max-events", "1"), ("sse_publish", "t", "x"), ("sse_tail", "t", "--no-follow")],
    ids=lambda words: words[0],
)
def test_what_a_store_says_does_not_act_on_the_terminal(
    terminal: Terminal, sse_log: Any, monkeypatch: pytest.MonkeyPatch, verb: str, words: tuple[str, ...]
) -> None:
    Topic("t").publish("x")
    log, whole = event_log(), threading.Event()
    monkeypatch.setattr(log, verb, _once(getattr(log, verb), whole))
    run(terminal, words)


def _once(real: Callable[..., Any], whole: threading.Event) -> Callable[..., Any]:
    """Fails the first time, so that what is tried again ends."""

    def call(*args: Any, **about: Any) -> Any:
        if whole.is_set():
            return real(*args, **about)
        whole.set()
        return _away()

    return call


def run(terminal: Terminal, words: tuple[str, ...]) -> str:
    """``told``, with the option for colours before a command that is run."""
    if "--" not in words:
        return told(terminal, *words)
    command: Any = load_command_class("django_agent_sse", words[0])
    command.__init__(stdout=terminal.out, stderr=terminal.err)
    with contextlib.suppress(SystemExit):
        command.run_from_argv(["manage.py", *words])
    got = terminal.close()
    harmless(got)
    return got.removeprefix(f"{SENTINEL}\n")


@pytest.mark.parametrize("name", ["sse_tail", "sse_publish", "sse_run", "sse_topics", "sse_trim"])
def test_arguments_that_a_script_passed_on_do_not_act_on_the_terminal(
    terminal: Terminal, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    told(terminal, name, f"x{LINE}", f"--{LINE}", LINE)
    got = capfd.readouterr().err
    assert set(CONTROL.findall(SGR.sub("", got))) <= {"\n"}
    assert "usage" in got.lower()


def test_a_program_that_cannot_be_run_is_told(terminal: Terminal, sse_log: Any, tmp_path: Path) -> None:
    got = run(terminal, ("sse_run", "t", "--", f"./{LINE[3:40]}{ATTACKS[:90]}".replace("/", "").translate({0: None})))
    assert "No such file" in got
