"""``manage.py sse_tail URL``: the stream of a server, followed over HTTP as a browser does."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest
import trustme
from django.core.management import CommandError, call_command

from django_agent_sse.management import remote
from tests.services import free_port
from tests.tls import tls_before

from .processes import PATIENCE, Project, Running, poll

Reply = tuple[int, dict[str, str], bytes]


class Server:
    """A server that answers each request with the next of its replies, and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                status, headers, body = outer.replies[min(len(outer.asked), len(outer.replies)) - 1]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as server:
        yield server


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY", 0.02)


def tailed(server: Server, *replies: Reply, words: tuple[str, ...] = ()) -> tuple[str, str]:
    """What the command prints and says where a server answers so."""
    server.replies = list(replies)
    out, err = StringIO(), StringIO()
    call_command("sse_tail", server.url, *words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def stream(*frames: str) -> Reply:
    """An event stream that ends with its connection."""
    return 200, {"Content-Type": "text/event-stream"}, "".join(f"{frame}\n\n" for frame in frames).encode()


GONE: Reply = (204, {}, b"")
END = stream('event: sse.end\nid: sse.end~9\ndata: {"reason":"completed"}')


# Real servers


@pytest.fixture
def serve(project: Project) -> Callable[[int], Running]:
    """Run uvicorn on a port, and wait until it answers."""

    def start(port: int) -> Running:
        words = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "tests.site.asgi:application"]
        running = project.start(argv=words)

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            assert running.process.poll() is None, running.err
            return False

        poll("the server answers", answers)
        return running

    return start


def test_a_server_that_is_killed_and_comes_back_costs_no_event(project: Project, serve: Callable[[int], Running]) -> None:
    port = free_port()
    project.run("sse_publish", "t", stdin=b"".join(b"%d\n" % number for number in range(1, 301)))
    first = serve(port)
    tail = project.start("sse_tail", f"http://127.0.0.1:{port}/topics/follow/t/", "--json")
    tail.printed('"data":"300"')
    first.signal(signal.SIGKILL)
    first.code()
    project.run("sse_publish", "t", "-", "--close", stdin=b"".join(b"%d\n" % number for number in range(301, 601)))
    tail.said("cannot be reached: Connection refused")
    second = serve(port)
    assert tail.code(2 * PATIENCE) == 0, tail.err
    second.signal(signal.SIGTERM)
    events = [json.loads(line) for line in tail.out.splitlines()]
    assert [event["data"] for event in events] == [str(number) for number in range(1, 601)]
    assert [event["id"] for event in events] == [event["id"] for event in project.events("t")]
    assert "the stream is over: topic_closed (completed)" in tail.err


def test_a_reader_who_has_seen_enough_ends_it_quietly_also_while_nothing_comes(
    project: Project, serve: Callable[[int], Running]
) -> None:
    port = free_port()
    project.run("sse_publish", "t", stdin=b"1\n2\n")
    serve(port)
    done = project.shell(f"manage sse_tail http://127.0.0.1:{port}/topics/follow/t/ | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_ctrl_c_ends_it_with_130_and_without_a_traceback(project: Project, serve: Callable[[int], Running]) -> None:
    port = free_port()
    project.run("sse_publish", "t", "1")
    serve(port)
    tail = project.start("sse_tail", f"http://127.0.0.1:{port}/topics/follow/t/")
    tail.printed("1\n")
    tail.signal(signal.SIGINT)
    assert (tail.code(), tail.err) == (130, "")


# What is asked


def test_it_asks_as_a_browser_does_with_what_it_is_given(server: Server) -> None:
    tailed(server, GONE, words=("-H", "X-Api-Key: s3cret", "--header", "X-Other:1", "--cookie", "a=b", "--after", "é.7"))
    ((path, headers),) = server.asked
    assert path == "/"
    assert headers["accept"] == "text/event-stream"
    assert headers["accept-encoding"] == "identity"
    assert headers["last-event-id"].encode("latin-1").decode() == "é.7"
    assert (headers["x-api-key"], headers["x-other"], headers["cookie"]) == ("s3cret", "1", "a=b")


def test_after_a_cut_it_asks_for_what_follows_the_last_event(server: Server) -> None:
    out, err = tailed(
        server, stream("id: 1\ndata: a", "data: b"), stream("id: 2\ndata: c", "id\ndata: d"), stream("data: e"), END
    )
    assert out.split() == ["a", "b", "c", "d", "e"]
    assert [headers.get("last-event-id") for _, headers in server.asked] == [None, "1", None, None]
    assert err.splitlines()[0].endswith(" s after 1")


def test_a_server_that_asks_for_a_pause_gets_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Noting(remote.Backoff):
        def next(self, *args: float) -> float:
            waits.append(super().next(*args))
            return waits[-1]

    monkeypatch.setattr(remote, "Backoff", Noting)
    busy: Reply = (503, {"Retry-After": "0"}, b"")
    out, err = tailed(server, stream("retry: 30\ndata: a"), busy, busy, busy, stream("data: b"), END)
    assert out.split() == ["a", "b"]
    assert "the server cannot answer now (503 Service Unavailable)" in err
    for wait, asked in zip(waits, [0.03, 0.06, 0.12, 0.24, 0.03], strict=True):
        assert 0.75 * asked <= wait <= 1.25 * asked


def test_a_date_is_a_pause_too() -> None:
    assert remote._retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    for hours in ("Fri, 31 Dec 2999 23:59:59 GMT", "9" * 400):
        assert remote._retry_after(hours) == remote.LONGEST_RETRY
    for nonsense in (None, "", "²", "Fri, 31 Dec 99999 23:59:59 GMT"):
        assert remote._retry_after(nonsense) == 0
    assert remote._retry_after("7") == 7
    assert remote._retry_after("soon") == 0


GIVEN = ("-H", "Authorization: s3cret", "-H", "X-Api-Key: s3cret", "--cookie", "session=s3cret")


def test_a_redirect_on_the_same_origin_keeps_what_was_given(server: Server) -> None:
    tailed(server, (307, {"Location": "/there?x=1"}, b""), GONE, words=GIVEN)
    assert [path for path, _ in server.asked] == ["/", "/there?x=1"]
    assert all(
        headers[name].endswith("s3cret") for _, headers in server.asked for name in ("authorization", "x-api-key", "cookie")
    )


@pytest.mark.parametrize("user", ["", "ada:s3cret@"], ids=["headers", "with a user in the address"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_that_was_given_goes_to_another_origin_nor_comes_back_from_there(server: Server, status: int, user: str) -> None:
    words = GIVEN if not user else GIVEN[2:]
    with contextlib.closing(Server()) as other:
        other.replies = [(status, {"Location": server.url + "back"}, b"")]
        server.replies = [(status, {"Location": other.url}, b""), GONE]
        err = StringIO()
        address = server.url.replace("//", f"//{user}")
        call_command("sse_tail", address, *words, "--after", "7", stdout=StringIO(), stderr=err)
        ((_, there),) = other.asked
    assert there.keys() == {"host", "accept", "accept-encoding", "cache-control", "last-event-id"}
    assert "s3cret" not in repr(there)
    assert there["last-event-id"] == "7"
    assert server.asked[1][0] == "/back"
    assert "s3cret" not in repr(server.asked[1]), "the other server could have chosen the address"
    origin = other.url.removesuffix("/")
    assert f"redirects to {origin}, which is another one: it is not sent what you gave (Authorization, Cookie" in err.getvalue()
    assert "s3cret" not in err.getvalue()


def test_a_server_chooses_nobodys_credentials(server: Server) -> None:
    with contextlib.closing(Server()) as other:
        other.replies = [GONE]
        tailed(server, (302, {"Location": other.url.replace("//", "//admin:admin@")}, b""))
        assert "authorization" not in other.asked[0][1]


def test_a_redirect_from_https_to_http_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with (
        contextlib.closing(Server()) as other,
        tls_before(int(server.url[:-1].rpartition(":")[2]), authority.issue_cert("127.0.0.1")) as port,
    ):
        server.replies = [(302, {"Location": other.url.replace("//", "//a:b@")}, b"")]
        said = f"redirects from https to {other.url.removesuffix('/')}, where everybody on the way could read"
        with pytest.raises(CommandError, match=said):
            call_command("sse_tail", f"https://127.0.0.1:{port}/", *GIVEN, stdout=StringIO(), stderr=StringIO())
        assert server.asked[0][1]["x-api-key"] == "s3cret"
        assert other.asked == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("//[bad/", "is not an address"),
        ("ftp://127.0.0.1/", "is not an address"),
        ("http://" + "a" * 70 + ".example/", "is not an address"),
        ("javascript:alert(1)", "is not an address"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_told(server: Server, where: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        tailed(server, (302, {"Location": where}, b""))


def test_a_path_beyond_ascii_is_asked_for_as_browsers_do(server: Server) -> None:
    server.replies = [GONE]
    call_command("sse_tail", server.url + "größe/?q=ü&x=%20", stdout=StringIO(), stderr=StringIO())
    assert server.asked[0][0] == "/gr%C3%B6%C3%9Fe/?q=%C3%BC&x=%20"


def test_the_password_in_an_address_stands_in_no_message(server: Server) -> None:
    server.replies = [(403, {}, b"")]
    with pytest.raises(CommandError) as refused:
        call_command("sse_tail", server.url.replace("//", "//ada:s3cret@"), stdout=StringIO(), stderr=StringIO())
    assert "s3cret" not in str(refused.value)


def test_a_circle_of_redirects_is_left(server: Server) -> None:
    with pytest.raises(CommandError, match="redirects more than 5 times"):
        tailed(server, (302, {"Location": "/"}, b""))


def test_a_name_and_password_in_the_address_are_sent(server: Server) -> None:
    server.replies = [GONE]
    call_command("sse_tail", server.url.replace("//", "//ada:s%20t@"), stdout=StringIO(), stderr=StringIO())
    assert server.asked[0][1]["authorization"] == "Basic YWRhOnMgdA=="


# What is said


def test_control_events_are_told_and_not_printed(server: Server) -> None:
    out, err = tailed(
        server,
        stream(
            'event: sse.position\nid: 3\ndata: {"reason":"live"}',
            'event: sse.gap\nid: 4\ndata: {"reason":"trimmed","asked":"1","missed":17}',
            'event: sse.gap\nid: 5\ndata: {"reason":"epoch","asked":"1","missed":null}',
            "event: tick\ndata: x",
            'event: sse.error\nretry: 20\ndata: {"reason":"handler_error","message":"masked"}',
        ),
        stream('event: sse.overloaded\nretry: 20\ndata: {"reason":"overloaded"}'),
        END,
    )
    assert out == "tick: x\n"
    said = [line.removeprefix("sse_tail: ") for line in err.splitlines() if "trying again" not in line]
    assert said == [
        "here is a gap (trimmed); 17 events are missing",
        "here is a gap (epoch)",
        "the server failed: masked",
        "the server is overloaded",
        "the stream is over: completed",
    ]
    assert server.asked[1][1]["last-event-id"] == "5"


def test_204_is_the_end(server: Server) -> None:
    assert tailed(server, GONE) == ("", "sse_tail: the server says that nothing will follow (204)\n")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "the server does not understand the request"),
        (401, "the server wants to know who asks: give -H 'Authorization: Bearer …' or --cookie"),
        (403, "who asks may not read this stream"),
        (404, "there is no such address on the server"),
        (405, "it is not an event stream"),
        (410, "begin without --after"),
        (418, "the server refuses"),
    ],
)
def test_refusals_are_final_and_told_with_their_meaning(server: Server, status: int, said: str) -> None:
    with pytest.raises(CommandError, match=str(status)) as refused:
        tailed(server, (status, {}, b""))
    assert said in str(refused.value)
    assert len(server.asked) == 1


def test_what_is_no_event_stream_is_told(server: Server) -> None:
    with pytest.raises(
        CommandError, match="is not an event stream: it answers with text/html, which begins with '<!doctype html>'"
    ):
        tailed(server, (200, {"Content-Type": "text/html; charset=utf-8"}, b"<!doctype html>\n"))


def test_without_following_one_connection_is_read(server: Server) -> None:
    assert tailed(server, stream("data: a", "data: b"), words=("--no-follow",)) == ("a\nb\n", "")
    assert len(server.asked) == 1


def test_json_has_ids_that_stay_in_force(server: Server) -> None:
    out, _ = tailed(server, stream("id: 7\ndata: a", "data: b\nretry: 20"), END, words=("--json",))
    events = [json.loads(line) for line in out.splitlines()]
    assert [(event["id"], event["data"], event["retry"]) for event in events] == [("7", "a", None), ("7", "b", 20)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://"], "is not an address to ask"),
        (["http://127.0.0.1:x/"], "is not an address to ask"),
        (["http://127.0.0.1:9/", "-n", "3"], "of a URL the server decides where to begin"),
        (["http://127.0.0.1:9/", "--exit-code"], "--exit-code is for topics"),
        (["http://127.0.0.1:9/", "-H", "nonsense"], "is not a header: write 'Name: value'"),
        (["http://127.0.0.1:9/", "-H", "A: b\nC: d"], "is not a header"),
        (["http://127.0.0.1:9/", "--cookie", "a\nb"], "is not a cookie"),
        (["http://127.0.0.1:9/a b"], "is not an address to ask"),
        (["http://no-such-host.invalid/"], "cannot be reached: its host is not known"),
    ],
)
def test_a_mistake_is_told_with_the_mend(words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=r".*") as refused:
        call_command("sse_tail", *words, stdout=StringIO(), stderr=StringIO())
    assert said in str(refused.value)


def test_a_server_that_does_not_run_is_told_at_once(project: Project) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    done = project.run("sse_tail", url)
    assert done.returncode == 1
    assert done.stderr == f"CommandError: {url} cannot be reached: Connection refused. Is the server running?\n"


def test_no_event_log_is_needed(new_project: Callable[..., Project], server: Server) -> None:
    server.replies = [stream("data: hello"), GONE]
    project = new_project("django_agent_sse.eventlog.memory.MemoryEventLog")
    done = project.run("sse_tail", server.url)
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_without_httpx_a_url_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(CommandError, match=r"install httpx: pip install 'django-agent-sse\[tail\]'"):
        call_command("sse_tail", "http://127.0.0.1:9/", stdout=StringIO(), stderr=StringIO())


def test_the_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.replies = [stream("data: a"), GONE]
    out = StringIO()
    call_command("sse_tail", "http://stream.example/events/", stdout=out, stderr=StringIO())
    assert out.getvalue() == "a\n"
    assert [path for path, _ in server.asked] == ["http://stream.example/events/"] * 2


def test_an_id_that_http_cannot_carry_is_told(server: Server) -> None:
    with pytest.raises(CommandError, match=r"HTTP cannot ask .* for what follows after"):
        tailed(server, stream("id: \x0c\ndata: a"), GONE)
    assert len(server.asked) == 1
