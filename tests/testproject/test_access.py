"""Who may see, start and cancel builds: with a session, with an API key, and after signing out."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.chromium import launched

from .recipe import HALF
from .server import BY_KEY, KEY, Server, outcome

PATIENCE = 120
PATIENCE_MS = 120_000
AS_A_BROWSER = {"Accept": "text/event-stream"}
KEYS = "/admin/builds/apikey/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def finished(server: Server) -> int:
    return server.finish("passes")


def test_nobody_sees_a_page_without_signing_in(server: Server, finished: int) -> None:
    for page in ("/", f"/builds/{finished}/", "/admin/builds/build/"):
        answer = server.get(page, None)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"/login/?next={page}")
    refused = server.post("/builds/start/", None, recipe="passes")
    assert refused.headers["Location"] == "/login/?next=/builds/start/"


def test_a_stream_answers_401_and_403_and_never_redirects(server: Server, finished: int) -> None:
    stream = f"/builds/{finished}/logs/"
    answers = {who: server.get(stream, who) for who in (None, "stranger", "viewer")}
    assert {who: answer.status_code for who, answer in answers.items()} == {None: 401, "stranger": 403, "viewer": 200}
    assert answers[None].json() == {"error": {"type": "unauthorized", "message": "authentication required"}}


def test_the_pages_tell_who_may_not_and_offer_nothing_that_one_may_not_do(server: Server, finished: int) -> None:
    assert server.get("/", "stranger").status_code == 403
    assert "You may not do this" in server.get("/", "stranger").text
    page = server.get("/", "viewer")
    assert page.status_code == 200
    assert "<h3>" not in page.text, "there is nothing to start"
    assert "/again/" not in server.get(f"/builds/{finished}/", "viewer").text
    for address in ("/builds/start/", f"/builds/{finished}/again/", f"/builds/{finished}/cancel/"):
        assert server.post(address, "viewer", recipe="passes").status_code == 403


@pytest.mark.parametrize("header", [f"X-API-Key: {KEY}", f"Authorization: Bearer {KEY}"])
def test_curl_watches_a_running_build_with_a_key(server: Server, header: str) -> None:
    build = server.start("gated")
    command = ["curl", "-sS", "-N", "-m", str(PATIENCE), "-H", header, f"{server.url}/builds/{build}/logs/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines = (line for line in iter(curl.stdout.readline, "") if line != ":\n")
        assert next(lines) == "event: stdout\n"
        assert next(line for line in lines if line.startswith("id: ")).endswith(".1\n")
        for gate in ("half", "end"):
            server.open_gate(build, gate)
        rest = curl.stdout.read()
    assert rest.count("event: stdout") == 2 * HALF - 1
    assert "event: complete" in rest


def test_a_key_that_nobody_has_or_whose_owner_may_not_see_builds_is_refused(server: Server, finished: int) -> None:
    sent = {"X-API-Key": ["wrong", ""], "Authorization": ["Bearer wrong", "Bearer \u00fc", "Basic eA==", "Bearer"]}
    for header, value in ((header, value) for header, values in sent.items() for value in values):
        answer = httpx.get(f"{server.url}/builds/{finished}/logs/", headers={header: value.encode()}, timeout=120)
        assert answer.status_code == 401, value
        assert answer.json()["error"]["message"].startswith("API key ")


def test_a_wrong_key_is_no_way_around_a_session_and_a_key_needs_none(server: Server, finished: int) -> None:
    stream = f"/builds/{finished}/logs/"
    with server.client("viewer") as client:
        assert client.get(stream, headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.get(stream).status_code == 200
    assert outcome(server.whole_log(finished))["status"] == "passed"  # by key


def test_a_key_is_made_in_the_admin_shown_once_and_works_until_it_is_deleted(server: Server, finished: int) -> None:
    with server.client() as client:
        client.get(f"{KEYS}add/")
        form = {"name": "deploy", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post(f"{KEYS}add/", data=form)
        page = client.get(KEYS).text
        key = re.search(r"The key is <code>([\w-]+)</code>", page)[1]  # type: ignore[index]
        assert key not in client.get(KEYS).text
        stream = f"{server.url}/builds/{finished}/logs/"
        assert httpx.get(stream, headers={"X-API-Key": key}, timeout=120).status_code == 200
        made = re.search(r'/apikey/(\d+)/change/">deploy', page)[1]  # type: ignore[index]
        client.post(f"{KEYS}{made}/delete/", data={**form, "post": "yes"})
        assert httpx.get(stream, headers={"X-API-Key": key}, timeout=120).status_code == 401


def test_signing_out_ends_the_streams_of_that_session_and_no_other(server: Server) -> None:
    build = server.start("gated")
    stream = f"/builds/{build}/logs/"
    with (
        server.client("viewer") as leaving,
        server.client("viewer") as staying,
        leaving.stream("GET", stream, headers=AS_A_BROWSER) as ending,
        staying.stream("GET", stream, headers=AS_A_BROWSER) as going_on,
    ):
        told, kept = ((line for line in one.iter_lines() if line != ":") for one in (ending, going_on))
        assert [next(lines) for lines in (told, kept)] == ["event: stdout"] * 2
        cookie = leaving.cookies["sessionid"]
        with httpx.Client(base_url=server.url, cookies={"sessionid": cookie}, timeout=120) as other:  # another window
            other.get("/")
            other.post("/logout/", data={"csrfmiddlewaretoken": other.cookies["csrftoken"]})
        assert "event: sse.end" in list(told)
        assert httpx.get(server.url + stream, cookies={"sessionid": cookie}, timeout=120).status_code == 401
        for gate in ("half", "end"):
            server.open_gate(build, gate)
        assert "event: complete" in list(kept)


@pytest.mark.parametrize("page", ["/builds/{}/", "/admin/builds/build/{}/change/"])
def test_signing_out_while_watching_is_told_and_signing_in_again_leads_back(browser: Browser, server: Server, page: str) -> None:
    build = server.start("gated")
    with browser.new_context() as context:
        server.sign_in(context)
        watching, leaving = context.new_page(), context.new_page()
        watching.set_default_timeout(PATIENCE_MS)
        watching.goto(server.url + page.format(build))
        expect(watching.locator(".sl-connection")).to_have_text("Live")
        expect(watching.locator(".sl-count")).to_have_text(f"{HALF} lines")
        leaving.goto(f"{server.url}/")
        leaving.get_by_role("button", name="Sign out").click()
        leaving.wait_for_url("**/login/")
        expect(watching.locator(".sl-connection")).to_have_text("Signed out. Sign in again")
        expect(watching.locator(".sl-count")).to_have_text(f"{HALF} lines")
        watching.get_by_role("link", name="Sign in again").click()
        watching.locator("#id_username").fill("admin")
        watching.locator("#id_password").fill("only for a test")
        watching.locator("#id_password").press("Enter")
        watching.wait_for_url("**" + page.format(build))
        expect(watching.locator(".sl-count")).to_have_text(f"{HALF} lines")
        for gate in ("half", "end"):
            server.open_gate(build, gate)
        expect(watching.locator(".sl-status")).to_have_text("Passed")


def test_a_page_that_may_not_be_seen_any_more_says_so(browser: Browser, server: Server) -> None:
    build = server.start("gated")
    with browser.new_context() as context:
        server.sign_in(context)
        page = context.new_page()
        page.goto(f"{server.url}/builds/{build}/")
        expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
        server.sign_in(context, "stranger")  # in another window
        page.reload()  # the page itself may be seen no more
        expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
    server.post(f"/builds/{build}/cancel/")


def test_a_wrong_password_is_told_and_a_next_page_elsewhere_is_not_followed(server: Server) -> None:
    with server.client(None) as client:
        form = {"username": "admin", "password": "wrong", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert "Please enter a correct username and password" in client.post("/login/", data=form).text
        form |= {"password": "only for a test", "next": "https://example.org/"}
        assert client.post("/login/", data=form).headers["Location"] == "/"


def test_a_key_opens_streams_and_nothing_else(server: Server) -> None:
    answer = httpx.get(f"{server.url}/", headers=BY_KEY, timeout=120)
    assert answer.headers["Location"].startswith("/login/")
    assert json.dumps(KEY) not in answer.text
