"""Pages of other origins: what they may read is what the route lists, and cookies go nowhere else."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.checks import run_checks
from django.core.handlers.asgi import ASGIHandler
from django.http import Http404
from django.test import override_settings
from django.urls import path

from django_agent_sse import Context, Router, SSEView, Stream, asgi
from django_agent_sse.cross_origin import MOST_HEADERS
from django_agent_sse.exceptions import ConfigurationError, RouteError
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.streams.admission import IN_SCOPE, Refused, admission
from django_agent_sse.streams.counters import Refusal, counters
from django_agent_sse.streams.options import StreamOptions
from tests.serving import Answer, ask, served

OTHER, EVIL = "https://app.example.com", "https://evil.example"
COOKIE = {"Cookie": "sessionid=s"}
W018, W019 = "django_agent_sse.W018", "django_agent_sse.W019"
CORS_HEADERS = "corsheaders.middleware.CorsMiddleware"
ALLOW, CREDENTIALS, EXPOSE = (f"access-control-{name}" for name in ("allow-origin", "allow-credentials", "expose-headers"))
router = Router()


async def hello(c: Context, stream: Stream) -> None:
    await stream.write("hello")


async def no(c: Context) -> bool:
    return False


async def missing(c: Context) -> None:
    raise Http404("no such thing")


async def broken(c: Context, stream: Stream) -> None:
    raise RuntimeError("no")


async def work(c: Context, run: AsyncRun) -> None:
    await run.write("done")


class AsCookie:
    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        request.user = AnonymousUser()
        response = self.get_response(request)
        response.headers["Access-Control-Allow-Origin"] = "https://of.the.middleware"
        return response


def plain_layer(get_response: Any) -> Any:
    return AsCookie(get_response)


router.sse("own/", hello, methods=["GET", "POST"], csrf_exempt=True)
router.sse("open/", hello, origins=None)
router.sse("listed/", hello, origins=[OTHER], methods=["GET", "POST"], csrf_exempt=True)
router.sse("cookies/", hello, origins=[OTHER], allow_credentials=True, methods=["GET", "POST"], csrf_exempt=True)
router.sse("all/", hello, origins=["*"])
router.sse("below/", hello, origins=["https://*.example.com:8443", "capacitor://localhost"], allow_credentials=True)
router.sse("refused/", no, hello, origins=[OTHER])
router.sse("missing/", missing, origins=[OTHER])
router.sse("broken/", broken, origins=[OTHER])
router.sse("layered/", hello, origins=[OTHER], middleware=[plain_layer])
router.log("log/", "log", origins=[])
router.run("runs/<slug:chat>/", work, name="runs", origins=[OTHER], allow_credentials=True, csrf_exempt=True)


async def asked(url: str, origin: str | None = None, site: str | None = None, **about: Any) -> Answer:
    headers: Mapping[str, str | None] = {"Origin": origin, "Sec-Fetch-Site": site, **about.pop("headers", {})}
    with served(router):
        return await ask(url, headers={name: value for name, value in headers.items() if value is not None}, **about)


async def preflight(url: str, origin: str, method: str, headers: str = "") -> Answer:
    about = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return await asked(url, origin, "cross-site", method="OPTIONS", headers=about)


def told(answer: Answer) -> dict[str, str]:
    return {name.removeprefix("access-control-"): value for name, value in answer.headers.items() if name.startswith("access-")}


# Who is refused


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
async def test_cookies_of_a_page_that_is_not_listed_are_refused(method: str, site: str | None) -> None:
    counters.reset()
    answer = await asked("/own/", EVIL, site, method=method, headers=COOKIE)
    assert (answer.status, told(answer)) == (403, {})
    assert method == "HEAD" or "allow_credentials" in answer.json()["error"]["message"]
    assert answer.headers["vary"] == "Origin, Sec-Fetch-Site, Cookie"
    assert answer.headers["cache-control"] == "no-store"
    assert counters.copy()["own/"].refused == {"origin": 1}


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_pages_of_the_site_and_what_somebody_types_go_on(site: str) -> None:
    assert (await asked("/own/", None, site, headers=COOKIE)).status == 200
    assert (await asked("/own/", "http://localhost:3000", site, headers=COOKIE)).status == 200, "through a proxy of a bundler"


async def test_clients_that_are_not_browsers_go_on() -> None:
    assert (await asked("/own/", headers=COOKIE)).data == ["hello"]


@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
async def test_without_cookies_a_page_gets_what_anybody_gets_and_cannot_read_it(site: str | None) -> None:
    answer = await asked("/own/", EVIL, site)
    assert (answer.status, told(answer)) == (200, {})


async def test_what_a_page_loads_without_asking_is_refused_too() -> None:
    for site in ("cross-site", "same-site", "something-new"):
        about = {**COOKIE, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert (await asked("/cookies/", None, site, headers=about)).status == 403


@pytest.mark.parametrize(("authorization", "status"), [("Basic eDp5", 403), ("negotiate x", 403), ("Bearer t", 200), ("x", 200)])
async def test_what_a_browser_adds_by_itself_counts_as_a_cookie(authorization: str, status: int) -> None:
    assert (await asked("/own/", EVIL, "cross-site", headers={"Authorization": authorization})).status == status


@pytest.mark.parametrize("origin", ["null", "x", "https://[", "file://", "https://testserver.evil.example", ""])
async def test_an_origin_that_says_nothing_is_another_one(origin: str) -> None:
    assert (await asked("/cookies/", origin, headers=COOKIE)).status == 403
    assert (await asked("/cookies/", origin, "cross-site", headers=COOKIE)).status == 403


@pytest.mark.parametrize(("origin", "secure", "status"), [
    ("http://testserver", False, 200),
    ("https://testserver", False, 200),
    ("https://testserver", True, 200),
    ("http://testserver", True, 403),
    ("http://testserver:81", False, 403),
])  # fmt: skip
@pytest.mark.parametrize("host", ["testserver", "testserver:443", "TestServer:80"])
async def test_without_fetch_metadata_the_host_tells(origin: str, secure: bool, status: int, host: str) -> None:
    """Also where a proxy writes the port that browsers leave out."""
    headers = {**COOKIE, "Host": host, **({"X-Proto": "https"} if secure else {})}
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_PROTO", "https")):
        assert (await asked("/own/", origin, method="POST", body=b"", headers=headers)).status == status


async def test_none_switches_it_off() -> None:
    answer = await asked("/open/", EVIL, "cross-site", headers=COOKIE)
    assert (answer.status, told(answer), "vary" in answer.headers) == (200, {}, False)
    with override_settings(AGENT_SSE={"ORIGINS": None}):
        assert (await asked("/own/", EVIL, "cross-site", headers=COOKIE)).status == 200
        assert (await asked("/listed/", EVIL, "cross-site", headers=COOKIE)).status == 403


async def test_a_link_may_lead_to_the_text_of_a_log_and_to_no_stream() -> None:
    about = {**COOKIE, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
    assert (await asked("/log/raw/?follow=0", None, "cross-site", headers=about)).status == 200
    assert (await asked("/log/", None, "cross-site", headers=about)).status == 403
    assert (await asked("/log/range/", None, "cross-site", headers=about)).status == 403
    assert (await asked("/log/raw/?follow=0", None, "cross-site", headers={**about, "Sec-Fetch-Dest": "iframe"})).status == 403


# Limits come before it


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that takes no more connects."""
    refused = Refused(Refusal.CONNECTS, "too many clients connect", 503)
    monkeypatch.setattr(admission, "rate_refusal", lambda *_, **about: refused)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_page_that_may_read_a_stream_can_read_that_a_limit_is_met(wrapped: bool) -> None:
    """Else its ``EventSource`` would never come back."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        application = asgi.wrap(ASGIHandler(), match=lambda scope: True) if wrapped else ASGIHandler()
        del scope[IN_SCOPE]
        await application(scope, receive, send)

    async def asked_of(url: str, origin: str, accept: str) -> Answer:
        return await asked(url, origin, "cross-site", headers={**COOKIE, "Accept": accept}, application=server)

    counters.reset()
    answer = await asked_of("/cookies/", OTHER, "text/event-stream")
    assert (answer.status, [event.name for event in answer.events]) == (200, ["sse.overloaded"])
    assert (answer.headers[ALLOW], answer.headers[CREDENTIALS], answer.headers["vary"]) == (OTHER, "true", "Origin")
    answer = await asked_of("/cookies/", OTHER, "*/*")
    assert (answer.status, answer.headers[ALLOW], answer.headers["access-control-expose-headers"]) == (503, OTHER, "Retry-After")
    for url, origin in (("/cookies/", EVIL), ("/own/", OTHER)):
        answer = await asked_of(url, origin, "text/event-stream")
        assert (answer.status, told(answer)) == (200, {}), "nobody is asked who it is, and nobody else is told"
    assert sum(counts.refused["limit_connects"] for counts in counters.copy().values()) == 4
    answer = await asked_of("/nowhere/", OTHER, "text/event-stream")
    assert (answer.status, told(answer)) == (200 if wrapped else 404, {})


# Who is listed


async def test_a_listed_origin_may_read_but_send_no_cookies() -> None:
    answer = await asked("/listed/", OTHER, "cross-site")
    assert (answer.status, answer.data) == (200, ["hello"])
    assert told(answer) == {"allow-origin": OTHER, "expose-headers": "Agent-SSE-Session"}
    assert (await asked("/listed/", OTHER, "cross-site", headers=COOKIE)).status == 403


async def test_with_allow_credentials_it_may_send_cookies_and_nobody_else() -> None:
    answer = await asked("/cookies/", OTHER, "cross-site", headers=COOKIE)
    assert (answer.status, answer.data) == (200, ["hello"])
    assert (answer.headers[ALLOW], answer.headers[CREDENTIALS]) == (OTHER, "true")
    for other in (EVIL, "http://app.example.com", f"{OTHER}.evil.example", f"{OTHER}:444", f"{OTHER}/", "null"):
        assert (await asked("/cookies/", other, "cross-site", headers=COOKIE)).status == 403
        assert told(await asked("/cookies/", other, "cross-site")) == {}


@pytest.mark.parametrize(("written", "sent"), [
    ("HTTPS://App.Example.com", "https://app.example.com"),
    ("https://app.example.com:443", "https://app.example.com"),
    ("http://localhost:80", "http://localhost"),
    ("http://localhost:8000", "http://localhost:8000"),
    ("http://app.example.com:443", "http://app.example.com:443"),
    ("https://bücher.example", "https://xn--bcher-kva.example"),
    ("https://*.bücher.example:443", "https://a.xn--bcher-kva.example"),
    ("http://[::1]:3000", "http://[::1]:3000"),
])  # fmt: skip
async def test_an_origin_is_listed_however_it_is_written(written: str, sent: str) -> None:
    own = Router(origins=[written])
    own.sse("x/", hello)
    with served(own):
        assert (await ask("/x/", headers={"Origin": sent})).headers[ALLOW] == sent
        for other in (f"{sent}.", f"{sent}0", sent.replace("http", "ftp"), sent.upper()):
            assert ALLOW not in (await ask("/x/", headers={"Origin": other})).headers


async def test_every_origin_may_read_without_cookies() -> None:
    answer = await asked("/all/", EVIL, "cross-site")
    assert told(answer) == {"allow-origin": "*", "expose-headers": "Agent-SSE-Session"}
    assert (await asked("/all/", "null")).headers[ALLOW] == "*"
    assert (await asked("/all/", EVIL, "cross-site", headers=COOKIE)).status == 403


@pytest.mark.parametrize(("origin", "listed"), [
    ("https://a.example.com:8443", True),
    ("https://a.b.example.com:8443", True),
    ("https://a.example.com", False),
    ("http://a.example.com:8443", False),
    ("https://aexample.com:8443", False),
    ("https://a.example.com:8443.evil.example", False),
    ("capacitor://localhost", True),
])  # fmt: skip
async def test_a_star_stands_for_names_below_a_domain(origin: str, listed: bool) -> None:
    answer = await asked("/below/", origin, "cross-site", headers=COOKIE)
    assert (answer.status, answer.headers.get(ALLOW)) == ((200, origin) if listed else (403, None))


@pytest.mark.parametrize(
    ("url", "status"), [("listed", 200), ("refused", 403), ("missing", 404), ("broken", 500), ("layered", 200)]
)
@pytest.mark.parametrize("accept", ["text/event-stream", "text/html", "*/*"])
async def test_every_answer_of_a_listing_route_varies_by_origin(url: str, status: int, accept: str) -> None:
    for origin in (OTHER, EVIL, None):
        answer = await asked(f"/{url}/", origin, headers={"Accept": accept})
        assert answer.status == status
        assert "Origin" in answer.headers["vary"].split(", ")
        of_the_middleware = url == "layered"
        assert answer.headers.get(ALLOW) == (
            "https://of.the.middleware" if of_the_middleware else OTHER if origin == OTHER else None
        )
    for about in ({"method": "DELETE"}, {"method": "OPTIONS"}, {"headers": COOKIE}):
        answer = await asked("/listed/", EVIL, **about)
        assert "Origin" in answer.headers["vary"].split(", ")


async def test_a_page_may_read_what_it_needs_of_an_answers_headers() -> None:
    answer = await asked("/runs/7/", OTHER, "cross-site", method="POST", body=b"", headers={**COOKIE, "Prefer": "respond-async"})
    assert answer.status == 202
    assert {"Location", "X-Run-Id"} <= {*answer.headers[EXPOSE].split(", ")}
    assert not {"Content-Type", "Vary", "Access-Control-Allow-Origin"} & {*answer.headers[EXPOSE].split(", ")}


# Preflights


@pytest.mark.parametrize(("url", "method", "methods"), [
    ("/listed/", "POST", "GET, POST, HEAD, OPTIONS"),
    ("/runs/7/", "POST", "GET, POST, DELETE, HEAD, OPTIONS"),
    ("/runs/7/", "DELETE", "GET, POST, DELETE, HEAD, OPTIONS"),
    ("/all/", "GET", "GET, HEAD, OPTIONS"),
])  # fmt: skip
async def test_a_browser_that_asks_first_is_told_what_it_may(url: str, method: str, methods: str) -> None:
    answer = await preflight(url, OTHER, method, "last-event-id,content-type, idempotency-key")
    assert (answer.status, answer.body) == (204, b"")
    assert told(answer) == {
        "allow-origin": "*" if url == "/all/" else OTHER,
        "allow-methods": methods,
        "allow-headers": "last-event-id, content-type, idempotency-key",
        "max-age": "600",
        **({"allow-credentials": "true"} if "runs" in url else {}),
    }
    assert answer.headers["vary"] == "Access-Control-Request-Method, Access-Control-Request-Headers, Origin"


async def test_preflights_of_a_page_leave_its_streams_their_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser asks before each request with a header of one's own: both would else come out of one share."""
    about = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}

    async def counted(method: str, given: dict[str, str]) -> int | None:
        async def server(scope: Any, receive: Any, send: Any) -> None:
            del scope[IN_SCOPE]
            await ASGIHandler()({**scope, "client": ("8.8.8.8", 1)}, receive, send)

        with served(router, AGENT_SSE={"LIMITS": {"ADDRESS_CONNECTS": 1, "ADDRESS": 2}}):
            headers = {"Origin": OTHER, "Sec-Fetch-Site": "cross-site", **given}
            return (await ask("/listed/", headers=headers, method=method, application=server)).status

    still = SimpleNamespace(monotonic=lambda: 1000.0)  # a second would make room
    monkeypatch.setattr("django_agent_sse.streams.admission.time", still)
    admission.reset()
    try:
        assert [await counted(*one) for one in (("OPTIONS", about), ("GET", {})) * 2] == [204, 200] * 2
        assert [await counted(*one) for one in (("OPTIONS", about), ("GET", {}))] == [429, 429]
    finally:
        admission.reset()


async def test_a_preflight_is_answered_before_guards_and_middleware() -> None:
    assert (await preflight("/refused/", OTHER, "GET", "x-api-key")).status == 204
    assert (await preflight("/layered/", OTHER, "GET", "x-api-key")).headers[ALLOW] == OTHER


@pytest.mark.parametrize("url", ["/own/", "/listed/", "/cookies/", "/open/"])
async def test_who_is_not_listed_is_told_nothing(url: str) -> None:
    answer = await preflight(url, EVIL, "POST", "x-api-key")
    assert (answer.status, told(answer), answer.headers["allow"][:3]) == (200, {}, "GET")


@pytest.mark.parametrize("asked_for", ["x" * (MOST_HEADERS + 1), "a b", "a\x7f", "", ","])
async def test_names_that_no_header_has_are_not_repeated(asked_for: str) -> None:
    answer = await preflight("/listed/", OTHER, "POST", asked_for)
    assert answer.status == 204
    assert "allow-headers" not in told(answer)


# What cannot be listed


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        OTHER,
        [7],
        ["null"],
        [""],
        ["app.example.com"],
        [f"{OTHER}/"],
        [f"{OTHER}/path"],
        ["https://u@x"],
        ["https://*"],
        ["https://a.*.x"],
        ["https://["],
        [f"https://{'ä' * 64}.example"],
        {},
    ],
    ids=repr,
)
def test_what_is_no_list_of_origins_is_refused_at_import_and_by_the_check(origins: Any) -> None:
    with pytest.raises(RouteError, match="origins must be a list of origins such as"):
        Router().sse("x/", hello, origins=origins)
    with override_settings(AGENT_SSE={"ORIGINS": origins}):
        (message,) = run_checks(tags=["django_agent_sse"])
        assert (message.id, "AGENT_SSE['ORIGINS']" in message.msg) == ("django_agent_sse.E001", True)


PLACES = [
    ("project", "project"),
    ("project", "route"),
    ("router", "route"),
    ("route", "router"),
    ("route", "route"),
    ("view", "view"),
]


@pytest.mark.parametrize(("all_of_them", "with_cookies"), PLACES, ids="-".join)
def test_cookies_of_every_page_of_the_web_are_refused_at_import(all_of_them: str, with_cookies: str) -> None:
    def at(place: str) -> dict[str, Any]:
        return {
            **({"origins": ["*"]} if place == all_of_them else {}),
            **({"allow_credentials": True} if place == with_cookies else {}),
        }

    project = {name.upper(): value for name, value in at("project").items()}
    view = type("View", (SSEView,), {"handle": staticmethod(hello), **at("view")})
    with override_settings(AGENT_SSE=project):
        if all_of_them == with_cookies == "project":
            with pytest.raises(ConfigurationError, match="every page of the web"):
                StreamOptions.of({})
            (message,) = run_checks(tags=["django_agent_sse"])
            assert (message.id, "every page of the web" in message.msg) == ("django_agent_sse.E001", True)
            return
        with pytest.raises(RouteError, match="every page of the web"):
            Router(**at("router")).sse("x/", view, **at("route"))


# Beside django-cors-headers


@pytest.mark.parametrize("of_the_route", [False, True])
async def test_what_django_cors_headers_lists_with_cookies_is_listed(of_the_route: bool) -> None:
    own = Router()
    own.sse("x/", hello, middleware=[CORS_HEADERS] if of_the_route else [])
    settings = {"CORS_ALLOWED_ORIGINS": [OTHER], "CORS_ALLOW_CREDENTIALS": True}
    with served(own, middleware=[] if of_the_route else [CORS_HEADERS], **settings):
        answer = await ask("/x/", headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site", **COOKIE})
        assert (answer.status, told(answer)) == (200, {"allow-origin": OTHER, "allow-credentials": "true"})
        assert (await ask("/x/", headers={"Origin": EVIL, "Sec-Fetch-Site": "cross-site", **COOKIE})).status == 403
        with override_settings(CORS_ALLOW_CREDENTIALS=False):
            assert (await ask("/x/", headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site", **COOKIE})).status == 403


@pytest.mark.parametrize(("theirs", "ours"), [*itertools.product([[], [OTHER]], repeat=2)])
async def test_no_header_is_there_twice(theirs: list[str], ours: list[str]) -> None:
    own = Router(origins=ours, allow_credentials=True)
    own.sse("x/", hello)
    settings = {"CORS_ALLOWED_ORIGINS": theirs, "CORS_ALLOW_CREDENTIALS": True, "CORS_EXPOSE_HEADERS": ["X-Theirs"]}
    seen: list[tuple[bytes, bytes]] = []

    def watching(application: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def told(message: Any) -> None:
                seen.extend(message.get("headers", ()))
                await send(message)

            await application(scope, receive, told)

        return app

    from django.core.handlers.asgi import ASGIHandler

    with served(own, middleware=[CORS_HEADERS], **settings):
        await ask("/x/", headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}, application=watching(ASGIHandler()))
    names = [name.decode().lower() for name, _ in seen]
    assert len(names) == len({*names})
    headers = {name.decode().lower(): value.decode() for name, value in seen}
    assert [part.strip().lower() for part in headers["vary"].split(",")].count("origin") == 1
    assert headers.get(ALLOW) == (OTHER if theirs or ours else None)
    assert headers.get(EXPOSE) == ("X-Theirs" if theirs else "Agent-SSE-Session" if ours else None)


def checked(routes: Router, **settings: Any) -> dict[str, str]:
    with served(routes, middleware=[CORS_HEADERS], **settings):
        return {message.id or "": message.msg for message in run_checks(tags=["django_agent_sse"]) if message.id in (W018, W019)}


def test_w018_every_page_with_cookies_by_django_cors_headers() -> None:
    every = {"CORS_ALLOW_ALL_ORIGINS": True, "CORS_ALLOW_CREDENTIALS": True}
    own = Router()
    assert checked(own, **every) == {}, "there is no stream"
    own.sse("x/", hello)
    assert list(checked(own, **every)) == [W018]
    assert checked(own, **{**every, "CORS_ALLOW_CREDENTIALS": False}) == {}
    assert checked(own, CORS_ALLOWED_ORIGINS=[OTHER], CORS_ALLOW_CREDENTIALS=True) == {}


def test_w019_a_listed_origin_whose_preflights_django_cors_headers_answers() -> None:
    own = Router()
    own.sse("x/", hello, origins=[OTHER])
    own.sse("y/", hello, origins=["*"])
    message = checked(own)[W019]
    assert f"'x/' ({OTHER}), 'y/' (*)" in message
    assert OTHER not in checked(own, CORS_ALLOWED_ORIGINS=[OTHER])[W019]
    for settings in ({"CORS_ALLOW_ALL_ORIGINS": True}, {"CORS_URLS_REGEX": "^/api/"}):
        assert checked(own, **settings) == {}
    with served(own):
        assert [message.id for message in run_checks(tags=["django_agent_sse"])] == []


CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def test_w023_a_listed_origin_from_which_django_takes_no_post() -> None:
    own = Router(origins=[OTHER, "https://*.example.org"], allow_credentials=True)
    own.sse("read/", hello)
    own.sse("exempt/", hello, methods=["POST"], csrf_exempt=True)
    own.sse("without/", hello, methods=["POST"], allow_credentials=False)

    def said(*trusted: str, middleware: str = CSRF, routes: Router = own) -> str:
        with served(routes, middleware=[middleware], CSRF_TRUSTED_ORIGINS=list(trusted)):
            messages = {message.id: message.msg for message in run_checks(tags=["django_agent_sse"])}
        return messages.get("django_agent_sse.W023", "")

    assert said() == ""
    own.sse("ask/", hello, methods=["POST"])
    assert f": 'ask/' ({OTHER}), 'ask/' (https://*.example.org). What" in said()
    assert ": 'ask/' (https://*.example.org). What" in said(OTHER)
    assert f"'runs/<slug:chat>/' ({OTHER})" not in said(routes=router), "it takes no token"
    runs = Router(origins=[OTHER], allow_credentials=True)
    runs.run("work/", work)
    assert f": 'work/' ({OTHER})" in said(routes=runs)
    assert said(OTHER, "https://*.example.org") == said("https://*.example.com", "https://*.org") == ""
    assert said("https://example.org", "https://a.example.org", OTHER), "one name is not all names"
    assert said("http://*.example.com", "http://*.example.org"), "nor another scheme"
    assert said(middleware=CORS_HEADERS) == ""


def test_an_endpoint_of_its_own_lists_too() -> None:
    class View(SSEView):
        origins = (OTHER,)

        async def handle(self, c: Context, stream: Stream) -> None: ...

    view: Any = View.as_view(allow_credentials=True)
    assert path("x/", view).callback.view_initkwargs["_endpoint"].options().origins == (OTHER,)
