"""The page of live streams on a site of two processes: who sees and may do what, what is hidden, and what is written down."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import httpx
import pytest

from tests.live.client import Client
from tests.live.servers import poll
from tests.timing import bound

from .serving import PATIENCE, STAFF, MonitorSite, running_site

SECRETS = {"id": "id-7Kq2", "data": "data-9Xw4", "query": "token-3Pz8", "payload": "payload-5Mt6"}
CLOSE = f"{STAFF}close/"
TOO_BUSY = "answered in time. Try again."
SENT_AWAY = ("kicked",)
"""Why a stream of the page's own ends where its process is drained."""
TOLD, AT_ONCE = 6, 2
"""Events of the page that are timed; and how many of them may have waited for who reads them."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorSite]:
    with running_site(tmp_path_factory.mktemp("monitor"), workers=2) as one:
        yield one


@pytest.fixture(autouse=True)
def nobody_stays(site: MonitorSite) -> Iterator[None]:
    yield
    for client in site.clients:
        client.close()
    site.clients.clear()


def seen(browser: httpx.Client, rows: int | None = None, **query: str) -> dict[str, Any]:
    """The next event of the page's stream that has every process's rows; and so many, where a number is given."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with browser.stream("GET", f"{STAFF}events/", params=query, headers={"Accept": "text/event-stream"}) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if not line.startswith("data:"):
                    continue
                told: dict[str, Any] = json.loads(line[5:])
                if "summary" not in told:  # its process is being drained, and sends it elsewhere: the page comes back too
                    assert told["reason"] in SENT_AWAY, told
                    break
                if "not answered" not in told["summary"] and rows in (None, len(told["rows"])):
                    return told
                assert time.monotonic() < deadline, (told["summary"], told["rows"], told["notices"])
            else:
                raise AssertionError("the stream ended")
        assert time.monotonic() < deadline, told


def token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]


def answered(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask again where the page says that a process was too busy to answer."""
    deadline = time.monotonic() + PATIENCE
    while TOO_BUSY in (answer := ask()).text:
        assert time.monotonic() < deadline, spoken(answer.text)
    return answer


def found(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until what is there is found: a process that was held up counts for a moment as one that has stopped reporting."""
    return poll("it is found", lambda: page if (page := answered(ask)).status_code == 200 else None, within=PATIENCE)


def confirmed(browser: httpx.Client, query: dict[str, str], **data: str) -> httpx.Response:
    """Go through the page that asks, and say yes."""
    page = found(lambda: browser.get(CLOSE, params=query))
    form = {**query, "csrfmiddlewaretoken": token(page.text), "back": "never", "reason": "a test", **data}

    def said() -> httpx.Response | None:
        """What was not found was not done: it is asked again."""
        answer = answered(lambda: browser.post(CLOSE, data=form, headers={"Referer": f"{browser.base_url}{CLOSE}"}))
        return answer if answer.status_code != 404 else None

    return poll("it is found", said, within=PATIENCE)


def complete(export: Callable[[], httpx.Response]) -> httpx.Response:
    """Export again where a process was too busy to answer."""

    def whole() -> httpx.Response | None:
        answer = export()
        answer.raise_for_status()
        is_json = answer.headers["Content-Type"].startswith("application/json")
        missing = answer.json()["missing_processes"] if is_json else "-incomplete" in answer.headers["Content-Disposition"]
        return None if missing else answer

    return poll("the export is whole", whole, within=PATIENCE)


def spoken(page: str) -> str:
    """What the page says, without its frame."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("<main")[2].partition("</main>")[0]).split())


def audit(site: MonitorSite) -> list[tuple[str, str]]:
    """The admin's log: who, and what."""
    with contextlib.closing(sqlite3.connect(site.log_file.parent / "db.sqlite3", timeout=60)) as connection:
        rows = (
            "SELECT username, change_message FROM django_admin_log JOIN auth_user ON auth_user.id = user_id ORDER BY action_time"
        )
        return connection.execute(rows).fetchall()


def ended(client: Client) -> bool:
    try:
        client.next(0.01)
    except Exception:
        return client.complete
    return bool(client.events[-1].name == "sse.end")


# Who may see it


def test_an_anonymous_visitor_is_sent_to_log_in_and_the_stream_answers_401(site: MonitorSite) -> None:
    with httpx.Client(base_url=site.url, timeout=120) as anybody:
        for address in (STAFF, CLOSE):
            answer = anybody.get(address)
            assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (302, "/admin/login/")
        assert anybody.get(f"{STAFF}events/").status_code == 401
        assert anybody.post(CLOSE).status_code in (302, 403)


def test_staff_without_the_permission_sees_nothing(site: MonitorSite) -> None:
    with site.signed_in("nothing") as nothing:
        assert nothing.get(STAFF).status_code == 403
        assert nothing.get(f"{STAFF}events/").status_code == 403
        assert nothing.get(CLOSE, params={"route": "answers/"}).status_code == 403
        assert "livestreams" not in nothing.get("/admin/").text


def test_who_may_look_may_not_close(site: MonitorSite) -> None:
    (client,) = site.open("answers/")
    with site.signed_in("looks") as looks:
        page = looks.get(STAFF)
        assert page.status_code == 200
        assert seen(looks, 1, route="answers/")["rows"][0]["route"] == "answers/"
        assert "close/" not in page.text
        assert looks.get(CLOSE, params={"route": "answers/"}).status_code == 403
        csrf = token(looks.get("/admin/").text)
        answer = looks.post(
            CLOSE, data={"route": "answers/", "scope": "route", "csrfmiddlewaretoken": csrf}, headers={"Referer": site.url}
        )
        assert answer.status_code == 403
    assert not ended(client)


def test_nothing_is_closed_without_a_csrf_token_or_by_get_or_half_filled_in(site: MonitorSite) -> None:
    (client,) = site.open("answers/")
    with site.signed_in("closes") as closes:
        query = {"route": "answers/", "scope": "route"}
        assert closes.post(CLOSE, data=query, headers={"Referer": site.url}).status_code == 403
        assert found(lambda: closes.get(CLOSE, params=query)).status_code == 200
        assert confirmed(closes, {"route": "answers/"}).status_code == 400, "what to close was not chosen"
        assert confirmed(closes, {"route": "answers/"}, scope="user").status_code == 400, "nobody offered that"
        assert confirmed(closes, {"route": "answers/"}, scope="route", back="later", retry="-1").status_code == 400
        assert closes.put(CLOSE).status_code in (403, 405)
    time.sleep(0)
    assert not ended(client)
    assert audit(site) == []


# What it shows


def test_the_snapshot_and_the_stream_show_every_column_of_streams_of_both_processes(site: MonitorSite) -> None:
    with site.signed_in("admin") as admin:
        session = f"sessionid={admin.cookies['sessionid']}"
        for _ in range(20):  # the system says which of the workers gets them
            site.open("answers/?id=answer-42", 4, Cookie=session, User_Agent="curl/8.14.1")
            told = seen(admin, len(site.clients), route="answers/")
            if len({row["process"] for row in told["rows"]}) == 2:
                break
        else:
            raise AssertionError("one worker got all of them")
        row = told["rows"][0]
        assert (
            row.items()
            >= {
                "route": "answers/",
                "topics": "",
                "user": "admin",
                "you": True,
                "events": "1",
                "last_id": "answer-42",
                "lag": "0",
                "agent": "curl/8.14.1",
                "address": "127.0.0.0/24",
            }.items()
        )
        assert row["state"] == "live"
        assert re.fullmatch(r"since (\d\d:\d\d:\d\d|\w+\.? \d+, \d{4} \d\d:\d\d)", row["since"]), (
            "with the day, once it is another"
        )
        assert re.fullmatch(r"\d+ s|\d+ min \d+ s", row["duration"])
        assert re.fullmatch(r"(\d+ s|\d+ min \d+ s) ago", row["wrote"])
        assert re.fullmatch(r"\d+ B", row["bytes"])
        assert row["bytes"] != "0 B"
        page = admin.get(STAFF, params={"route": "answers/"}).text
        assert page.count('<tr data-id="') == len(site.clients) + 1, "rows and the template"
        assert [card["key"] for card in told["cards"]] == ["open", "events", "bytes", "slow", "refused", "errors", "processes"]
        assert told["cards"][-1]["value"] == "2"


def test_a_topic_its_lag_and_its_readers_are_told_and_rows_are_found_by_it(site: MonitorSite) -> None:
    site.open("publish/7/")
    site.open("builds/7/log/", 3)
    with site.signed_in("looks") as looks:
        told = seen(looks, 3, text="builds.7")
        assert [row["topics"] for row in told["rows"]] == ["builds.7"] * 3
        assert all(re.fullmatch(r"\w+\.\d+", row["last_id"]) for row in told["rows"]), "a position is no payload"
        assert told["summary"].startswith("3 of ")
        assert seen(looks, 0, text="no such thing")
        assert seen(looks, 3, route="builds/<int:build>/log/")


def test_rows_come_in_the_order_that_is_asked_for(site: MonitorSite) -> None:
    for _ in range(3):
        site.open("answers/")
    with site.signed_in("looks") as looks:
        newest = [row["id"] for row in seen(looks, 3, route="answers/", sort="-opened")["rows"]]
        oldest = [row["id"] for row in seen(looks, 3, route="answers/", sort="opened")["rows"]]
    assert newest == oldest[::-1]
    assert len(newest) == 3


def test_rows_are_those_of_a_user_or_of_a_process_and_in_the_order_of_a_column(site: MonitorSite) -> None:
    agent = {"User_Agent": "curl/8.14.1"}
    for name, count in (("alice", 2), ("bob", 3)):
        site.open("notifications/", count, wait=False, Cookie=site.cookie_of(name), **agent)
    site.open("answers/", 2, **agent)
    site.open("prices/?pause=0.05", 1, **agent)
    with site.signed_in("looks") as looks:

        def in_order(sort: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = seen(looks, 8, text="curl", sort=sort)["rows"]
            return found

        rows = in_order("route")
        assert [row["route"] for row in rows] == ["answers/"] * 2 + ["notifications/"] * 5 + ["prices/"]
        assert {in_order(sort)[0]["route"] for sort in ("-events", "-bytes")} == {"prices/"}
        users = [row["user_id"] for row in in_order("user")]
        assert users == sorted(users)
        alice = next(row["user_id"] for row in rows if row["user"] == "alice")
        assert {row["user"] for row in seen(looks, 2, user=alice)["rows"]} == {"alice"}
        told = seen(looks, 8, text="curl")
        processes = seen(looks, view="processes")["processes"]
        process = next(one["id"] for one in processes if one["name"] == told["rows"][0]["process"])
        these = {row["id"] for row in told["rows"] if row["process"] == told["rows"][0]["process"]}
        found = seen(looks, len(these), text="curl", process=process)["rows"]
        assert {row["id"] for row in found} == these


def test_the_page_is_told_about_once_a_second(site: MonitorSite) -> None:
    site.open("answers/")
    headers = {"Accept": "text/event-stream"}
    with site.signed_in("looks") as looks, looks.stream("GET", f"{STAFF}events/", headers=headers) as page:
        made: list[datetime] = []
        for line in page.iter_lines():
            if line.startswith("data:"):
                made.append(datetime.strptime(json.loads(line[5:])["at"], "%H:%M:%S"))
            if len(made) == TOLD:
                break
    seconds, most = (made[-1] - made[0]).seconds, bound(1.5, 30.0)  # over midnight, too
    assert TOLD - 1 - AT_ONCE <= seconds <= (TOLD - 1) * most


def test_a_client_that_takes_nothing_is_slow_and_failures_are_counted(site: MonitorSite) -> None:
    site.open("prices/?pause=0&size=200000")
    site.open("fails/")
    with site.signed_in("looks") as looks:

        def slow() -> bool:
            cards = {card["key"]: card["value"] for card in seen(looks)["cards"]}
            return cards["slow"] == "1" and cards["errors"] != "0"

        poll("it is slow, and an error was counted", slow, within=PATIENCE, every=0.5)
        assert [row["route"] for row in seen(looks, 1, state="slow")["rows"]] == ["prices/"]


# Secrets


def test_payloads_are_never_shown_to_who_has_no_permission_for_them(site: MonitorSite) -> None:
    query = f"id={SECRETS['id']}&data={SECRETS['data']}&token={SECRETS['query']}"
    site.open(f"answers/?{query}", User_Agent=f"curl/8.14.1 {SECRETS['payload']}", Authorization=f"Bearer {SECRETS['query']}")
    with site.signed_in("looks") as looks, site.signed_in("reads") as reads:
        told = seen(looks, 1, route="answers/")
        assert [row["last_id"] for row in told["rows"]] == ["hidden"]
        pages = (
            json.dumps(told)
            + looks.get(STAFF).text
            + looks.get(STAFF, params={"text": SECRETS["id"]})
            .text.replace(f'value="{SECRETS["id"]}"', "")
            .replace(f"text={SECRETS['id']}", "")
            .replace(f"text%3D{SECRETS['id']}", "")  # what they have asked for themselves
        )
        for name, secret in SECRETS.items():
            assert secret not in pages, name
        assert seen(looks, 0, text=SECRETS["id"]), "nor can they be guessed by searching"
        assert [row["last_id"] for row in seen(reads, 1, route="answers/")["rows"]] == [SECRETS["id"]]
    for name, secret in SECRETS.items():
        assert secret not in site.log_file.read_text(), f"{name} in the server's log"
    with contextlib.closing(sqlite3.connect(site.log_file.parent / "db.sqlite3", timeout=60)) as connection:
        stored = " ".join(text for (text,) in connection.execute("SELECT payload FROM django_agent_sse_logrow"))
    for name in ("data", "query", "payload"):
        assert SECRETS[name] not in stored, f"{name} in the event log"


# Closing


def test_closing_one_from_the_page_ends_it_wherever_it_is_and_is_written_down(site: MonitorSite) -> None:
    site.open("answers/", 6)
    with site.signed_in("closes") as closes:
        rows = seen(closes, 6, route="answers/")["rows"]
        for over, row in enumerate(rows[:2], 1):
            query = {"stream": row["id"], "user": row["user_id"], "route": row["route"]}
            before = time.monotonic()
            answer = confirmed(closes, query, scope="stream", reason="it was\nin the way")
            assert "Closed one stream of answers/" in answer.text, spoken(answer.text)
            poll("one more is over", lambda over=over: sum(map(ended, site.clients)) == over, within=PATIENCE)
            print(f"\nclosed after {time.monotonic() - before:.3f} s, with the two pages that ask")
    who, what = audit(site)[-1]
    assert who == "closes"
    assert what == "Closed one stream of answers/. (clients stay away) Reason: it was in the way"
    assert "as closes asked (it was in the way)" in site.log_file.read_text()


def test_closing_all_of_a_user_and_all_of_a_route_and_draining_go_through_the_page(site: MonitorSite) -> None:
    with site.signed_in("closes") as closes:
        theirs = site.open("notifications/", 4, wait=False, Cookie=site.cookie_of("alice"))
        # Of a route that no test after this one opens: a process that has none of them may close all that there are later.
        site.open("builds/7/log/", 4, wait=False)
        rows = seen(closes, 4, route="notifications/")["rows"]
        assert {row["user"] for row in rows} == {"alice"}
        answer = confirmed(closes, {"user": rows[0]["user_id"], "route": "notifications/"}, scope="user")
        assert "Closed all streams of alice." in answer.text, spoken(answer.text)
        poll("hers are over", lambda: all(map(ended, theirs)), within=PATIENCE)
        others = [client for client in site.clients if client not in theirs]
        assert not any(map(ended, others))
        confirmed(closes, {"route": "builds/<int:build>/log/"}, scope="route", back="later", retry="20")
        poll("all are over", lambda: all(map(ended, others)), within=PATIENCE)
        # One that has a stream: an idle one does not hear what was ordered before it wakes up.
        site.open("answers/", 1, User_Agent="Drained/1.0")
        (row,) = seen(closes, 1, text="drained/1.0")["rows"]
        (process,) = (one for one in seen(closes, view="processes")["processes"] if one["name"] == row["process"])
        confirmed(closes, {"process": process["id"]}, scope="drain", retry="1")
        title = f"The process {process['name']} is being drained."
        poll("it says so", lambda: title in {one["title"] for one in seen(closes)["notices"]}, within=PATIENCE)
        poll(
            "so does its row",
            lambda: "draining" in {one["state"] for one in seen(closes, view="processes")["processes"]},
            within=PATIENCE,
        )
        confirmed(closes, {"process": process["id"], "resume": "1"}, scope="resume")
        poll(
            "it is over",
            lambda: "draining" not in {one["state"] for one in seen(closes, view="processes")["processes"]},
            within=PATIENCE,
        )
    said = [what for _, what in audit(site)[-4:]]
    assert [what.partition(" (")[0].partition(" Reason")[0] for what in said] == [
        "Closed all streams of alice.",
        "Closed all streams of the route builds/<int:build>/log/.",
        f"Drained the process {process['name']}.",
        f"The process {process['name']} takes streams again.",
    ]


def test_a_user_who_was_not_there_a_moment_ago_is_found(site: MonitorSite) -> None:
    with contextlib.closing(sqlite3.connect(site.log_file.parent / "db.sqlite3", timeout=60)) as connection:
        (user,) = connection.execute("SELECT id FROM auth_user WHERE username = 'alice'").fetchone()
    with site.signed_in("closes") as closes:
        for count in range(1, 60):  # until both processes report: the system says which of them gets a stream
            site.open("answers/", 1)
            if len({row["process"] for row in seen(closes, count, route="answers/")["rows"]}) == 2:
                break
        else:
            pytest.fail("one process got all of them")
        page = answered(lambda: closes.get(CLOSE, params={"user": str(user)}))
        assert page.status_code == 404, spoken(page.text)
        site.open("notifications/", 1, wait=False, Cookie=site.cookie_of("alice"))
        page = answered(lambda: closes.get(CLOSE, params={"user": str(user)}))
        assert page.status_code == 200, spoken(page.text)
        assert "All streams of alice" in page.text


def test_what_is_not_there_cannot_be_closed_and_nobody_is_named_for_it(site: MonitorSite) -> None:
    site.open("answers/", 1, User_Agent="Forged/1.0")  # a question of its own: the row of the test before may be told yet
    with site.signed_in("closes") as closes:
        (row,) = seen(closes, 1, text="forged/1.0")["rows"]
        process, done, form = (
            row["id"].partition(".")[0],
            len(audit(site)),
            token(found(lambda: closes.get(CLOSE, params={"route": "answers/"})).text),
        )
        for query, told in (
            ({}, "no such stream"),
            ({"stream": "nobody.1"}, "no such stream"),
            ({"stream": f"{process}.987654321"}, "no such stream"),
            ({"user": "1"}, "no such stream"),
            ({"route": "nowhere/"}, "no such stream"),
            ({"process": "nobody"}, "no such process"),
        ):
            data = {**query, "scope": "stream", "csrfmiddlewaretoken": form}
            page = answered(partial(closes.get, CLOSE, params=query))
            answer = answered(partial(closes.post, CLOSE, data=data, headers={"Referer": CLOSE}))
            for one in (page, answer):
                assert one.status_code == 404, query
                assert told in one.text, spoken(one.text)
                assert "<fieldset>" not in one.text
                assert not any(name in one.text for name in ("alice", "has been told"))
        assert len(audit(site)) == done, "nothing was done"
        query = {"stream": row["id"], "user": "1", "route": "notifications/"}
        forged = found(partial(closes.get, CLOSE, params=query)).text
        assert re.findall(r'name="(stream|user|route)" value="([^"]*)"', forged) == [("stream", row["id"]), ("route", "answers/")]
    assert not any(map(ended, site.clients))
