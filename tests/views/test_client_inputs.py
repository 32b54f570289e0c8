"""Very many requests with anything in every field that a client chooses: each has an answer, and costs no more than is said.

Headers, the query, the path, the method, the body and when the client goes. No request ends in a 5xx, in an exception that the
application lets pass, or in one that is logged; none costs more than its limit, and nothing of it is left. The long form
(``tox run -e inputs``) sends 100,000.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote

import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponse

from django_agent_sse import Context, Router, Stream, api_key, asgi, login_required, publish, signed_required, signed_url
from django_agent_sse.eventlog import backend
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.streams import admission as admissions
from django_agent_sse.streams.admission import admission
from django_agent_sse.streams.counters import counters
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.shared_counts import shared
from django_agent_sse.topics.feeds import feeds_here
from tests.inprocess import eventually
from tests.serving import ask, served
from tests.timing import LONG
from tests.wire.generated import BREAKING, HARMLESS, SOUP

REQUESTS = 100_000 if LONG else 2_000
AT_ONCE = 250
SEED = 20_261_129
PATIENCE = 120.0
CPU_SECONDS = 10.0
"""The most that so many requests at once may take of the processor; they take about a tenth of a second."""
ANSWER_BYTES = 4_000
"""The most of an answer that is no stream, but for parts of a log: it does not depend on what was sent."""
LOGGED = 1_000
"""Characters of the longest line that the package logs."""
MOST_BODY = 2_000
ORIGIN = "https://app.example.com"
SETTINGS: Any = {
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "AGENT_SSE": {
        "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"},
        "PROXIES": 1,
        "LIMITS": {"CONNECTS": None, "ADDRESS_CONNECTS": None},  # all of them shall get as far as they can
    },
}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
router = Router()


def words(text: str) -> list[str]:
    return text.split()


async def hello(c: Context, stream: Stream, **captured: Any) -> None:
    """Look at all that a handler may look at."""
    await stream.write({"id": c.last_event_id, "query": dict(c.query), "captured": captured, "accept": c.header("Accept")})


async def reads(c: Context, stream: Stream) -> None:
    await stream.write(await c.json_body())


async def work(c: Context, run: AsyncRun, **captured: Any) -> None:
    await run.write(await c.json_body())


router.sse("plain/", hello)
router.sse("posts/", reads, methods=["POST"], csrf_exempt=True, name="posts")
router.sse("protected/", reads, methods=["GET", "POST"], name="protected")
router.sse("int/<int:number>/", hello, name="int")
router.sse("str/<str:name>/", hello, name="str")
router.sse("path/<path:rest>", hello, name="path")
router.sse("key/", api_key("secret"), hello, name="key")
router.sse("login/", login_required, hello, name="login")
router.sse("signed/", signed_required, hello, name="signed")
router.sse("either/", hello, signed=True, name="either")
router.sse("listed/", hello, origins=[ORIGIN], allow_credentials=True, name="listed")
router.sse("any/", hello, origins=["*"], name="any")
router.sse("once/", hello, resumable=True, name="once")
router.topic("topic/", "inputs.one", "inputs.two")
router.topic("topics/<str:name>/", "inputs.{name}", name="topics")
router.log("log/", "inputs.one")
router.logs("logs/", {"one": "inputs.one", "two": "inputs.two"})
router.run("run/<slug:name>/", work, csrf_exempt=True, max_body=MOST_BODY, name="run")
router.run("one-run/", work, csrf_exempt=True, name="one-run")

PATHS = words("""
plain posts protected key login signed either listed any once topic one-run log log/range log/raw logs logs/one
logs/one/range logs/two/raw int/7 str/x run/a topics/one
""")
OPEN = words("""
int/{} str/{} path/{} topics/{} logs/{} logs/{}/range run/{} run/a/{} run/a/{}/stop one-run/{} {}
""")
HEADERS = words("""
Last-Event-ID Origin Sec-Fetch-Site X-Forwarded-For Cookie Authorization Accept X-API-Key X-Run-Id Idempotency-Key
Prefer Forwarded Referer User-Agent Content-Type Content-Length Host Accept-Language Accept-Encoding If-None-Match Range
Access-Control-Request-Method X-CSRFToken Agent-SSE-Check Access-Control-Request-Headers X-Forwarded-Proto
X-HTTP-Method-Override Expect TE Upgrade
""")
QUERY = [
    "",
    *words("""
last_event_id sse_signature topics after before from count limit context grep regex case level levels source places
follow download run_id runId offsets q
"""),
]
LIKELY = {
    "Last-Event-ID": [
        "1",
        "sse.end~",
        "sse.end~1",
        "e.1",
        "a" * 512,
        "a" * 513,
        f"e.{2**63}",
        "e.-1",
        "e.1.2.3",
        "~",
        "…",
        "0",
        "e.",
    ],
    "Origin": [
        "null",
        ORIGIN,
        "https://evil.example",
        f"{ORIGIN}.evil.example",
        "http://testserver",
        "https://[::1",
        "file://",
        "x",
        "",
    ],
    "Sec-Fetch-Site": ["same-origin", "same-site", "cross-site", "none", "CROSS-SITE", "cross-site, none"],
    "X-Forwarded-For": [
        "1.2.3.4",
        "::1",
        "1.2.3.4, 5.6.7.8",
        "[::1]:80",
        "1.2.3.4:99",
        "fe80::1%eth0",
        "unknown",
        ",",
        "999.9.9.9",
        "1" * 50,
    ],
    "Cookie": [
        "sessionid=x",
        "a=b; sessionid=",
        "sessionid",
        "=",
        ";;;",
        "csrftoken=" + "a" * 64,
        'a="',
        "a=b" * 500,
        "sessionid=a:b:c",
    ],
    "Authorization": [
        "Bearer x",
        "Bearer",
        "Basic",
        "Basic YTpi",
        "Basic !!",
        "Bearer  secret",
        "bearer secret",
        "Digest a=b",
        "secret",
    ],
    "Accept": ["text/event-stream", "*/*", "text/html", "text/event-stream;q=0", "a/b;" * 200, ",", "text/event-stream, */*"],
    "Content-Type": [
        "application/json",
        "application/json; charset=x",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
    ],
    "Content-Length": ["0", "-1", "7", "99999999999999999999", "x", "1, 2", "+1", "1_0", "٣"],
    "Host": ["testserver", "evil.example", "a:b", "[", "testserver:99999", "testserver, evil"],
    "Idempotency-Key": ["k", '"k"', "k" * 300],
    "Prefer": ["respond-async", "respond-async, wait=1", "wait=x"],
    "X-API-Key": ["secret", "Secret", "secret "],
    "X-Run-Id": ["a", "a" * 300, "../x", "a.b"],
    "Access-Control-Request-Method": ["GET", "POST", "x"],
    "Access-Control-Request-Headers": ["last-event-id", "x," * 500, "authorization"],
}
NUMBERS = ["0", "1", "-1", "5000", "5001", "9" * 5_000, "1e3", "0x1", " 1", "1.0", "٣", "true", "false", "on", ""]
VALUES = {
    "grep": ["x", "(", "(a+)+$", "[", "\\", ".*" * 20, "(?=x)", "a" * 2_000, "(?i)x", "\0"],
    "level": ["error", "error,warning", ",", "x" * 500],
    "source": ["stdout", "stderr", "x"],
    "last_event_id": LIKELY["Last-Event-ID"],
}
METHODS = ["GET"] * 14 + ["POST"] * 3 + ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "QUERY", "TRACE", "get", "X" * 50]
LEAVES = ["at the head", "at the head", "at the body", "at the body", "at the body", "at once", "while it sends"]
BODIES = [
    b"",
    b"{}",
    b'{"a": 1}',
    b"[",
    b"null",
    b'"\\ud800"',
    b"\xff\xfe",
    b"[" * 5_000,
    b"9" * 5_000,
    b"NaN",
    b"x" * 3_000,
    b'{"a":1,"a":2}',
]


class Requests:
    """Draws requests as ASGI scopes and bodies."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        with served(router, middleware=MIDDLEWARE, **SETTINGS):
            self._signatures = [signed_url("/signed/").partition("=")[2] for _ in range(5)]

    def one(self) -> Request:
        """The next one."""
        draw = self._random
        path, query = self._path(), self._query()
        headers = [(b"host", b"testserver")] if draw.random() < 0.97 else []
        if draw.random() < 0.8:
            headers.append((b"accept", b"text/event-stream"))
        headers += [self._header() for _ in range(draw.choice((0, 1, 1, 2, 3, 8, 30)))]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": draw.choice(("1.1", "1.0", "2")),
            "method": draw.choice(METHODS),
            "scheme": draw.choice(("http", "https")),
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": headers,
            "client": (f"10.0.0.{draw.randrange(256)}", 40_000),
            "server": ("testserver", 80),
        }
        body = draw.choice(BODIES) if draw.random() < 0.7 else draw.randbytes(draw.randrange(MOST_BODY * 2))
        return Request(scope, self._cut(body), leaves=draw.choice(LEAVES))

    def _cut(self, body: bytes) -> list[bytes]:
        place = self._random.randrange(len(body) + 1)
        return [body] if place in (0, len(body)) else [body[:place], body[place:]]

    def _text(self) -> str:
        draw = self._random
        if draw.random() < 0.02:
            return draw.choice(HARMLESS) * draw.randrange(1, 2_000)
        pieces = [draw.choice(HARMLESS) if draw.random() < 0.9 else draw.choice(BREAKING) for _ in range(draw.randrange(5))]
        return "".join(pieces) + ("" if draw.random() < 0.8 else chr(draw.randrange(0x20, 0xD800)))

    def _bytes(self) -> bytes:
        draw = self._random
        if draw.random() < 0.7:
            return self._text().encode(errors="surrogatepass")
        return b"".join(draw.choice(draw.choice(SOUP)) for _ in range(draw.randrange(6)))

    def _path(self) -> str:
        draw = self._random
        if draw.random() < 0.75:
            return f"/{draw.choice(PATHS)}/"
        value = quote_from_bytes(self._bytes(), safe="" if draw.random() < 0.8 else "/.")[:2_000]
        return "/" + draw.choice(OPEN).format(value) + draw.choice(("/", "/", ""))

    def _query(self) -> bytes:
        draw, how = self._random, self._random.random()
        if how < 0.3:
            return b""
        if how < 0.33:
            return self._bytes()
        if how < 0.34:
            return b"&".join([b"a=1"] * draw.choice((1_000, 1_001, 5_000)))
        pairs = []
        for _ in range(draw.choice((1, 1, 1, 2, 4, 12))):
            name = draw.choice(QUERY)
            pairs.append(f"{quote(name)}={quote(self._value(name), errors='surrogatepass')}")
        return draw.choice(("&", "&", ";", "&&")).join(pairs).encode()

    def _value(self, name: str) -> str:
        draw = self._random
        if name == "sse_signature" and draw.random() < 0.7:
            good = draw.choice(self._signatures)
            place = draw.randrange(len(good))
            return draw.choice(
                (good, good[:place], good[place:], good[:place] + "x" + good[place + 1 :], good * 20, good.upper())
            )
        if draw.random() < 0.6:
            return draw.choice(VALUES.get(name, NUMBERS))
        return self._text()

    def _header(self) -> tuple[bytes, bytes]:
        draw = self._random
        name = draw.choice(HEADERS)
        likely = LIKELY.get(name)
        value = draw.choice(likely).encode() if likely and draw.random() < 0.7 else self._bytes()
        if name == "Content-Type":  # Django asks Python for a charset of that name; no server lets a NUL come so far
            value = value.replace(b"\0", b"")
        return name.lower().encode(), value


@dataclass(slots=True)
class Request:
    """One request, and what came of it."""

    scope: dict[str, Any]
    body: list[bytes]
    leaves: str
    status: int | None = None
    streams: bool = False
    size: int = 0
    _left: asyncio.Event = field(default_factory=asyncio.Event)

    async def send_to(self, application: Any) -> None:
        """Ask, and go at some moment; return when the application does."""
        async with asyncio.timeout(PATIENCE):
            await application(self.scope, self._receive, self._take)

    async def _receive(self) -> dict[str, Any]:
        if self.leaves == "at once" or (self.leaves == "while it sends" and len(self.body) == 1):
            return {"type": "http.disconnect"}
        if self.body:
            part = self.body.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.body)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = {name.lower(): value for name, value in message["headers"]}
            assert not any(character in value for value in headers.values() for character in b"\r\n\0")
            self.streams = headers.get(b"content-type", b"").startswith(
                (b"text/event-stream", b"application/json", b"text/plain")
            )
            if self.leaves == "at the head":
                self._left.set()
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
            if self.leaves == "at the body" or not message.get("more_body"):
                self._left.set()


DJANGOS = ("Bad Request (UnicodeDecodeError)", "Bad request (Unable to parse request body)")


class Loud(logging.Handler):
    """What must not be logged: exceptions, and long lines of this package."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name.startswith("django.security.") or message.startswith(DJANGOS):
            return  # so Django tells that it has refused a host, too many fields, a query that is no UTF-8, and a body
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(self.format(record))
        elif record.name.startswith("django_agent_sse") and len(message) > LOGGED:
            self.found.append(f"{len(message)} characters: {message[:200]}")


@pytest.fixture
def loud() -> Iterator[Loud]:
    handler = Loud()
    loggers = [logging.getLogger(), logging.getLogger("django")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


def plain(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A page of an error. Those of Django read the form once more for its token, and where it cannot be read they are a 500."""
    return HttpResponse(status=404 if isinstance(exception, Http404) else 400)


async def test_whatever_clients_send_has_an_answer_and_costs_no_more_than_its_limit(loud: Loud) -> None:
    requests, statuses, dearest = Requests(SEED), Counter[int | None](), 0.0
    strays: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: strays.append(context))
    counters.reset()
    with served(router, middleware=MIDDLEWARE, **SETTINGS):
        vars(settings.ROOT_URLCONF).update(handler400=plain, handler404=plain)
        application = asgi.wrap(ASGIHandler())
        for name in ("one", "two"):
            for number in range(3):
                await asyncio.to_thread(publish, f"inputs.{name}", f"line {number}", event="stdout")
        for start in range(0, REQUESTS, AT_ONCE):
            batch = [requests.one() for _ in range(min(AT_ONCE, REQUESTS - start))]
            before = time.process_time()
            for request, error in zip(
                batch, await asyncio.gather(*(one.send_to(application) for one in batch), return_exceptions=True), strict=True
            ):
                assert error is None, f"{error!r}: {request!r:.3000}"
                assert request.status is None or request.status < 500, f"{request.status}: {request.scope!r:.3000}"
                assert request.streams or request.size <= ANSWER_BYTES, f"{request.size} bytes: {request.scope!r:.3000}"
                statuses[request.status] += 1
            dearest = max(dearest, time.process_time() - before)
            assert dearest < CPU_SECONDS
            assert loud.found == []
        await eventually("all streams are over", lambda: not registry.loop_state().streams, PATIENCE)
        await eventually("no place is taken", lambda: not admission.open and not shared.counts(), PATIENCE)
        await eventually("nobody follows a topic", lambda: not len(feeds_here()), PATIENCE)
        assert not any(gate._inside or gate._lines for gate in admissions._gates.all())
        told = set(counters.copy())
        backend.reset()
    assert strays == []
    assert len(told) <= len(PATHS) + len(OPEN), "labels are routes, and not what clients send"
    print(f"{REQUESTS:,} requests: {dict(sorted(statuses.items(), key=str))}; {AT_ONCE} at once took {dearest:.2f} s at most")
    assert set(statuses) >= {200, 204, 400, 401, 403, 404, 405}
    assert statuses[200] > REQUESTS / 10


async def follows(c: Context, stream: Stream) -> None:
    await stream.open()
    await stream.follow("inputs.one")


async def reads_late(c: Context, stream: Stream) -> None:
    await stream.open()
    await c.json_body()


@pytest.mark.parametrize(
    ("handler", "sent", "error"),
    [
        (follows, {"headers": {"Last-Event-ID": "invented"}}, "PositionGone"),
        (reads_late, {"method": "POST", "body": b"{"}, "BodyNotJSON"),
    ],
    ids=["an id", "a body"],
)
async def test_what_a_client_invented_is_no_failure_of_code(
    handler: Any, sent: Any, error: str, loud: Loud, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the response has begun, which is then broken off: whoever sends it fills no error log and tells no tracker."""
    failed: list[Any] = []
    late = Router()
    late.sse("late/", handler, methods=["GET", "POST"], csrf_exempt=True)

    def listen(**about: Any) -> None:
        failed.append(about)

    got_request_exception.connect(listen)
    try:
        with served(late, **SETTINGS):
            await asyncio.to_thread(publish, "inputs.one", "x")
            answer = await ask("/late/", broken_off=True, **sent)
    finally:
        got_request_exception.disconnect(listen)
        backend.reset()
    assert answer.status == 200
    assert (loud.found, failed) == ([], [])
    assert f"late/ ends: its client's request cannot be served ({error})" in caplog.messages
