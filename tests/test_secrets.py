"""Secrets that are planted in all that comes in, in a run of all that the package does: they are found in nothing that it tells.

What is looked through: every record of every logger, with its traceback and its fields; warnings; what is printed; each error
page and refusal, as JSON and as HTML, with its headers; metrics; the monitor's page, its rows and its reports; the pages of
topics, for staff without the permission to see payloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.handlers.asgi import ASGIHandler
from django.core.management import call_command
from django.http import Http404
from django.test import AsyncClient, override_settings
from django.urls import include, path
from django.utils.log import AdminEmailHandler

from django_agent_sse import (
    Context,
    Event,
    Router,
    Stream,
    api_key,
    arevoke_signed_urls,
    asgi,
    close_topic,
    event_log,
    login_required,
    publish,
    signed_required,
    signed_url,
    topic_name,
)
from django_agent_sse.contrib.monitor.commands import COMMANDS, Close, event_of, execute
from django_agent_sse.contrib.monitor.inspector import StreamInspector, StreamQuery
from django_agent_sse.contrib.monitor.report_json import encode
from django_agent_sse.contrib.prometheus import metrics_view
from django_agent_sse.contrib.wires import AI_SDK
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.streams import kv
from django_agent_sse.streams.counters import counters
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.snapshot import Snapshots
from django_agent_sse.testing import SSEClient
from tests.inprocess import Client, eventually
from tests.serving import Answer, ask, connect, served

pytestmark = pytest.mark.django_db(transaction=True)
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PATIENCE = 60.0
MARK = "planted"
PAYLOAD, QUERY, KEY, BEARER, COOKIE, LAST_ID, ONCE, RUN_NAME, KV_KEY, BODY, AGENT = (
    f"{MARK}-{what}-7f3a" for what in ("payload", "query", "key", "bearer", "cookie", "id", "once", "run", "kv", "body", "agent")
)
EVERYWHERE = {
    "Authorization": f"Bearer {BEARER}",
    "Cookie": f"other={COOKIE}",
    "Referer": f"http://testserver/?q={QUERY}",
    "User-Agent": AGENT,
    "X-API-Key": KEY,
}
router = Router()


async def payload_of(c: Context) -> str:
    """A payload, in a variable of a frame that errors pass through."""
    secret = f"{PAYLOAD} {c.query.get('q')}"
    await asyncio.sleep(0)
    return secret


@router.sse("good/")
async def good(c: Context, stream: Stream) -> None:
    await stream.write(await payload_of(c), event="told", id=PAYLOAD)
    await stream.write_sse(data={"secret": PAYLOAD})


@router.sse("idle/", heartbeat=5)
async def idle(c: Context, stream: Stream) -> None:
    await stream.write(await payload_of(c))
    await stream.wait_closed()


@router.sse("late/")
async def late(c: Context, stream: Stream) -> None:
    secret = await payload_of(c)
    await stream.write(secret)
    raise RuntimeError("without a word about it")


@router.sse("early/")
async def early(c: Context, stream: Stream) -> None:
    secret = await payload_of(c)
    raise RuntimeError("without a word about it" if secret else "")


@router.sse("callbacks/")
async def callbacks(c: Context, stream: Stream) -> None:
    secret = await payload_of(c)

    def fail() -> None:
        raise RuntimeError("without a word about it" if secret else "")

    stream.on_end(fail)
    await stream.write(secret)


@router.sse("wrong/<slug:kind>/", methods=["GET", "POST"], csrf_exempt=True)
async def wrong(c: Context, stream: Stream, kind: str) -> None:
    """Mistakes of code, with a secret as the argument."""
    secret = await payload_of(c)
    await stream.open() if kind == "late" else None
    verbs: dict[str, Any] = {
        "event": lambda: stream.write("x", event=f"{secret}\n"),
        "id": lambda: stream.write("x", id=f"{secret}\0"),
        "object": lambda: stream.write_sse(data={"secret": secret, "object": object()}),
        "surrogate": lambda: stream.write(f"{secret}\ud800"),
        "framed": lambda: stream.pipe_sse([f"data {secret}"]),
        "topic": lambda: stream.follow(secret + "\n"),
        "named": lambda: stream.follow(topic_name("builds.{id}", id=f"{secret}.x")),
        "body": lambda: c.json_body(),
        "missing": lambda: _missing(secret),
        "kv": lambda: c.kv.get("jobs", KV_KEY),
        "kv-key": lambda: c.kv.get("jobs", KV_KEY * 100),
    }
    await verbs[kind]()


async def _missing(secret: str) -> None:
    raise Http404(f"no such thing: {secret}")


async def says_no(c: Context) -> bool:
    return not await payload_of(c)


async def forgets(c: Context) -> bool:
    await payload_of(c)
    return None  # type: ignore[return-value]


@router.run("fails/<slug:name>/", csrf_exempt=True)
async def fails(c: Context, run: AsyncRun, name: str) -> None:
    secret = await c.json_body()
    await run.write(secret)
    raise RuntimeError("without a word about it")


@router.run("works/<slug:name>/", csrf_exempt=True, wire=AI_SDK)
async def works(c: Context, run: AsyncRun, name: str) -> None:
    await run.write(await c.json_body())
    await asyncio.Event().wait()


router.sse("refused/", says_no, good, name="refused")
router.sse("forgotten/", forgets, good, name="forgotten")
router.sse("key/", api_key("another"), good, name="key")
router.sse("login/", login_required, good, name="login")
router.sse("signed/", signed_required, idle, name="signed")
router.log("log/", "secrets", name="log")
router.topic("topic/", "secrets", name="topic")
router.topic("private/<str:name>/", "private.{name}", name="private")

urlpatterns = [
    path("", include(router.urls)),
    path("admin/", admin.site.urls),
    path("metrics/", metrics_view(guards=[])),
]


ADMINS: Any = ["ops@example.com"] if django.VERSION >= (6, 0) else [("ops", "ops@example.com")]
NOT_FOR_IDS = ("logs", "metrics", "the monitor", "the monitor's rows", "a report", "internal topics", "warnings", "printed")


class Everything(logging.Handler):
    """All that is logged, as a formatter would show it and as a collector of structured logs would send it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        # Django puts the request itself on each of its records, for handlers that know what of it may be told.
        known = ("msg", "args", "exc_info", "message", "request")
        fields = {name: value for name, value in vars(record).items() if name not in known}
        self.lines.append(f"{record.name}: {fields!r}")


@pytest.fixture
def logged() -> Iterator[Everything]:
    handler, root = Everything(), logging.getLogger()
    # Django itself logs whole contexts of templates, and parameters of queries, where it is asked to debug.
    levels = {"": logging.INFO, "django": logging.INFO, "django_agent_sse": logging.DEBUG, "asyncio": logging.DEBUG}
    loggers = {logging.getLogger(name): level for name, level in levels.items()}
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger, level in loggers.items():
        logger.setLevel(level)
        logger.propagate = True
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for logger, level, propagate in before:
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(MemoryEventLog, "crosses_processes", True)  # so that commands take it
    monkeypatch.setitem(SSEClient.__init__.__kwdefaults__, "timeout", PATIENCE)
    memory = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}
    about: Any = {"AGENT_SSE": {"EVENT_LOG": memory, "MONITOR": {"USER_AGENT": "truncated"}}, "DEBUG": False}
    counters.reset()
    with override_settings(**about), served(urlpatterns, middleware=MIDDLEWARE):
        yield
    backend.reset()
    counters.reset()


MISTAKES = ("event", "id", "object", "surrogate", "framed", "topic", "named", "missing", "kv", "kv-key")
REFUSALS = [
    *(f"/wrong/{kind}/" for kind in MISTAKES),
    *("/early/", "/refused/", "/forgotten/", "/key/", "/login/", "/signed/", f"/signed/?sse_signature={QUERY}", "/nothing/"),
    *(f"/log/range/?{name}={QUERY}" for name in ("from", "count", "levels", "level", "source", "limit", "before", "regex")),
    f"/log/raw/?follow={QUERY}",
    f"/works/a/?run_id={QUERY}",
    f"/private/{'x' * 300}/",
]


async def refusals() -> AsyncIterator[tuple[str, Answer]]:
    """Every way to get no stream, with secrets in every field."""
    for url in REFUSALS:
        for accept in ("*/*", "text/html", "text/event-stream"):
            for method in ("GET", "DELETE", "HEAD"):
                separator = "&" if "?" in url else "?"
                headers = {**EVERYWHERE, "Accept": accept, "Last-Event-ID": LAST_ID}
                yield url, await ask(f"{url}{separator}q={QUERY}", method=method, headers=headers)
    post = {"method": "POST", "headers": {**EVERYWHERE, "Accept": "*/*", "Idempotency-Key": ONCE, "X-Run-Id": RUN_NAME}}
    for url, body in [
        ("/wrong/body/", f'{{"a": "{BODY}'),
        ("/wrong/body/", f'"{BODY}\\ud800"'),
        ("/wrong/body/", f"{BODY}\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
        ("/works/a/", BODY),
        ("/good/", BODY),
        (f"/works/a/?run_id={RUN_NAME}&runId={RUN_NAME}", f'"{BODY}"'),
    ]:
        yield url, await ask(f"{url}{'&' if '?' in url else '?'}q={QUERY}", body=body.encode(), **post)  # type: ignore[arg-type]
    for origin in ("https://evil.example", f"https://{MARK}.example"):
        headers = {**EVERYWHERE, "Origin": origin, "Sec-Fetch-Site": "cross-site"}
        yield "/good/", await ask(f"/good/?q={QUERY}", headers=headers)


async def opened(url: str, **about: Any) -> Client:
    client = connect(url, **about)
    await client.events(1, PATIENCE)
    assert client.status == 200
    return client


def staff(*codes: str) -> AsyncClient:
    user = User.objects.create_user(f"staff{len(codes)}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client = AsyncClient()
    client.force_login(user)
    return client


async def test_secrets_are_found_in_nothing_that_is_told(
    logged: Everything,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv, "_noted", set())  # what a process says once, it says here
    told: dict[str, str] = {}
    secrets = [MARK]
    user = await User.objects.acreate_user("ada", password=BODY)
    await sync_to_async(publish)("secrets", {"secret": PAYLOAD}, event="stdout")
    await sync_to_async(publish)("secrets", PAYLOAD)
    open_streams = []

    async with contextlib.AsyncExitStack() as stack:
        # Streams: whole, failed, failed in a callback, and some that stay open meanwhile.
        for url in ("/good/", "/late/", "/callbacks/", "/wrong/late/"):
            for accept in ("text/event-stream", "*/*"):
                headers = {**EVERYWHERE, "Accept": accept}
                await connect(f"{url}?q={QUERY}", headers=headers).over(PATIENCE)
        url = signed_url(f"/signed/?q={QUERY}", user=user)
        signature = url.partition("sse_signature=")[2]
        secrets += [signature, signature.rpartition(":")[2]]
        for address in (url, f"/idle/?q={QUERY}", f"/topic/?q={QUERY}"):
            client = await opened(address, headers=EVERYWHERE, last_event_id=None)
            open_streams.append(client)
            stack.callback(client.leave)
        session = await sync_to_async(staff)("view_livestreams", "view_logtopic")
        secrets.append(session.cookies["sessionid"].value)

        # Runs: one that fails, one that goes on, is asked for again, and stopped.
        post: Any = {"method": "POST", "headers": {**EVERYWHERE, "Prefer": "respond-async", "Idempotency-Key": ONCE}}
        await ask("/fails/a/", body=f'"{BODY}"'.encode(), **post)
        begun = await ask("/works/a/", body=f'"{BODY}"'.encode(), **post)
        assert begun.status == 202
        run = begun.json()["run"]
        told["another request with the key"] = str(await ask("/works/a/", body=f'"{BODY} too"'.encode(), **post))
        told["another run"] = str((await ask("/works/a/", body=b'"x"', method="POST", headers=EVERYWHERE)).body)

        # What is told while they are open.
        async for place, answer in refusals():
            assert answer.status is not None
            if answer.status >= 400:
                told[f"{answer.status} of {place} {len(told)}"] = f"{answer.headers} {answer.body!r}"
        monitor = await session.get("/admin/agent_sse_monitor/livestreams/")
        assert monitor.status_code == 200
        told["the monitor"] = monitor.content.decode()
        rows = StreamInspector().find(StreamQuery())
        assert len(rows) >= 3
        told["the monitor's rows"] = str([stream.info() if hasattr(stream, "info") else stream for stream in rows])
        told["a report"] = encode(Snapshots().snapshot())
        told["metrics"] = (await ask("/metrics/")).body.decode()
        for page in ("", "secrets/change/", "private.x/change/"):
            answer = await session.get(f"/admin/django_agent_sse/logtopic/{page}")
            told[f"topics, {page}"] = answer.content.decode()
        printed = io.StringIO()
        await sync_to_async(call_command)("sse_topics", stdout=printed, stderr=printed)
        await sync_to_async(call_command)("sse_publish", "secrets", PAYLOAD, stdout=printed, stderr=printed)
        told["commands"] = printed.getvalue()

        # The end: by a command of staff, by closing the topic, by stopping the run.
        await ask(f"/works/a/{run}/", method="DELETE", headers=EVERYWHERE)
        await sync_to_async(close_topic)("secrets")
        event = event_of(Close(user=str(user.pk), by="somebody", reason="enough"))
        await event_log().aappend(COMMANDS, event)
        execute(Close(user=str(user.pk), by="somebody", reason="enough"), StreamInspector())
        await eventually("one is closed", lambda: open_streams[0].task.done(), PATIENCE)
        await arevoke_signed_urls(url=url)

    for client in open_streams:
        await client.over(PATIENCE)
    await eventually("all are over", lambda: not registry.loop_state().streams, PATIENCE)
    assert {ending for counts in counters.copy().values() for ending in counts.endings} >= {
        Ending.COMPLETED,
        Ending.HANDLER_ERROR,
        Ending.KICKED,
        Ending.TOPIC_CLOSED,
        Ending.CLIENT_DISCONNECT,
    }
    told["internal topics"] = "\n".join(
        record.event.data for topic in event_log().internal_topics() for page in event_log().pages(topic) for record in page
    )
    told["logs"] = "\n".join(logged.lines)
    for logger in ("django.request", "django_agent_sse.stream", "django_agent_sse.runs", "django_agent_sse.kv"):
        assert f"\n{logger}: " in told["logs"]
    told["warnings"] = "\n".join(str(warning.message) for warning in recwarn)
    told["printed"] = "".join(capfd.readouterr())
    assert all(told[name] for name in NOT_FOR_IDS if name not in ("warnings", "printed"))
    assert "idle/" in told["the monitor"] + told["metrics"]
    found = [(name, _around(text, secret)) for name, text in told.items() for secret in secrets if secret in text]
    # Whoever has the id of such a run may read it: who asks for it by its address, and staff who may see topics, see that id.
    found += [(name, _around(told[name], run)) for name in NOT_FOR_IDS if run in told[name]]
    assert found == []


def _around(text: str, secret: str) -> str:
    """Where it stands, so that a failure can be read."""
    place = text.index(secret)
    return text[max(0, place - 200) : place + 100]


def test_what_is_planted_would_be_found(logged: Everything) -> None:
    logging.getLogger("django_agent_sse.stream").info("x", extra={"field": PAYLOAD})
    assert any(PAYLOAD in line for line in logged.lines)
    assert Event(PAYLOAD).data == PAYLOAD


class Tracker(logging.Handler):
    """What error tracking sends of a record's request, as integrations for Django do."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.sent: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        request = getattr(record, "request", None)
        if request is not None:
            about = (request.build_absolute_uri(), request.get_full_path(), dict(request.GET), request.META, request.scope)
            self.sent.append(repr((request, *about)))


class Mailer(AdminEmailHandler):
    """The mail that Django writes to those who run the project, with the page of the error; it is not sent."""

    def __init__(self) -> None:
        super().__init__(include_html=True)
        self.sent: list[str] = []

    def send_mail(self, subject: str, message: str, *args: Any, **kwargs: Any) -> None:
        self.sent.append(f"{subject} {message} {kwargs}")


def kinds_of_failure() -> Router:
    """Routes behind a signature on which something goes wrong, each in its own way."""
    failing = Router()

    async def gone(c: Context, stream: Stream) -> None:
        raise Http404("no such thing")

    async def forbidden(c: Context) -> bool:
        return False

    async def begins(c: Context, stream: Stream) -> None:
        await stream.open()
        raise RuntimeError("without a word about it")

    for name, *steps in (("early", early), ("begins", begins), ("gone", gone), ("forbidden", forbidden, early), ("late", late)):
        failing.sse(f"{name}/", signed_required, *steps, name=name)
    return failing


@pytest.mark.filterwarnings("ignore:.*default mailer")  # what AdminEmailHandler uses is Django's affair
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
async def test_a_signature_is_in_no_error_page_mail_or_record_that_holds_the_request(
    logged: Everything, wrapped: bool, debug: bool
) -> None:
    tracker, mailer = Tracker(), Mailer()
    root = logging.getLogger()
    told: dict[str, str] = {}
    secrets: list[str] = []
    about: Any = {"DEBUG": debug, "ADMINS": ADMINS, "DEBUG_PROPAGATE_EXCEPTIONS": False}
    application = asgi.wrap(ASGIHandler()) if wrapped else ASGIHandler()
    with override_settings(**about), served(kinds_of_failure(), middleware=MIDDLEWARE):
        for handler in (tracker, mailer):
            root.addHandler(handler)
        try:
            for name in ("early", "begins", "gone", "forbidden", "late"):
                for accept in ("text/event-stream", "text/html", "*/*"):
                    url = signed_url(f"/{name}/?page=1")
                    secrets.append(url.partition("sse_signature=")[2])
                    client = connect(url, headers={"Accept": accept}, application=application)
                    with contextlib.suppress(RuntimeError):  # where Django is asked to let it pass
                        await client.over(PATIENCE)
                    told[f"{name} as {accept}"] = f"{client.status} {client.headers} {client.raw!r}"
        finally:
            for handler in (tracker, mailer):
                root.removeHandler(handler)
    told["mail"] = "\n".join(mailer.sent)
    told["error tracking"] = "\n".join(tracker.sent)
    told["logs"] = "\n".join(logged.lines)
    if debug:
        assert "Traceback" in told["early as text/html"]
        assert "page=1" in told["early as text/html"], "the rest of the query is there"
    assert "page=1" in told["mail"]
    assert "page=1" in told["error tracking"]
    found = [(name, _around(text, secret)) for name, text in told.items() for secret in secrets if secret in text]
    assert found == []
