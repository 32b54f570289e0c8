"""The log viewer in Chromium: what it shows, and what people do with it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from .demo import building, many_tests
from .serving import LogSite
from .test_large import resting
from .viewing import connection, flashed, numbers_of, plain, rows_of, text_of, wait_for_lines

EXIT = ("exit", '{"code": 0, "seconds": 12.5}')
STREAM = "text/event-stream"
KICKED = 'id: sse.end~1.1\nevent: sse.end\ndata: {"reason": "kicked"}\n\n'
SCROLLED_UP = """() => {
  const view = document.querySelector(".sl-view");
  return view.scrollHeight - view.scrollTop - view.clientHeight > 590;
}"""


def test_a_log_that_is_over_is_shown_whole_with_its_end(page: Page, site: LogSite) -> None:
    site.publish("over", "one", ("stderr", "two"), ("log", "three\nfour"), EXIT, close="completed")
    page.goto(f"{site.url}/logs/over/")
    connection(page, "Ended")
    assert text_of(page) == ["one", "two", "three", "four"]
    assert numbers_of(page) == [1, 2, 3, 4]
    expect(page.locator(".sl-status")).to_have_text("Succeeded")
    expect(page.locator(".sl-facts")).to_contain_text("12.5 s")
    expect(page.locator(".sl-facts")).to_contain_text("exit code 0")
    expect(page.locator(".sl-facts")).to_contain_text("4 lines")
    expect(page.locator(".sl-facts")).to_contain_text("1 on stderr")
    expect(page.locator(".sl-stderr")).to_have_count(1)
    expect(page).to_have_title("Log over")  # it was over before anybody came


def test_the_page_holds_the_last_lines_before_its_script_runs_and_without(page: Page, site: LogSite) -> None:
    site.publish("plain", *(f"\x1b[32mline {n}\x1b[0m <b>" for n in range(1, 301)))
    context = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
    bare = context.new_page()
    bare.goto(f"{site.url}/logs/plain/")
    assert bare.locator("pre").inner_text().split("\n")[:1] == ["line 201 <b>"]
    assert bare.locator("pre").inner_text().rstrip().endswith("line 300 <b>")
    bare.get_by_role("link", name="Its text does not.").click()
    assert "/logs/plain/log/raw/" in bare.url
    context.close()


def test_new_lines_appear_as_they_are_published(page: Page, site: LogSite) -> None:
    page.goto(f"{site.url}/logs/fresh/")
    connection(page, "Live")
    expect(page.locator(".sl-status")).to_have_text("Waiting")
    for number in range(1, 4):
        site.publish("fresh", f"line {number}")
        wait_for_lines(page, number)
    expect(page.locator(".sl-status")).to_have_text("Running")
    site.publish("fresh", ("exit", '{"code": 3}'), close="failed")
    expect(page.locator(".sl-status")).to_have_text("Failed")
    expect(page.locator(".sl-facts")).to_contain_text("exit code 3")
    expect(page).to_have_title("✗ Log fresh")


HOSTILE = [
    "<script>document.title = 'owned'</script>",
    '<img src=x onerror="document.title = 1"><b>bold</b>&lt;i&gt;',
    'javascript:alert(1) https://a.example/<script>x</script> http://b.example/"onclick=alert(1)',
    "\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\ \x1b]0;title\x07 \x00\x01\x02\x7f\x9b31m end",
    "::group::<script>document.title = 'owned'</script>",
    "\x1b[38;2;1;2;3;url(javascript:alert(1))mno style",
    "{{ 7 * 7 }} ${7*7} </pre></sse-log><h1>broken out</h1>",
]


def test_nothing_in_a_log_becomes_an_element(page: Page, site: LogSite) -> None:
    site.publish("hostile", *HOSTILE, close="<script>x</script>")
    page.goto(f"{site.url}/logs/hostile/")
    connection(page, "Ended")
    assert page.locator("sse-log :is(script, img, b, i, h1, iframe, style, object)").count() == 0
    assert page.locator("h1").count() == 1
    names = page.evaluate("[...new Set([...document.querySelectorAll('.sl-view *')].map((one) => one.localName))].sort()")
    assert set(names) <= {"a", "button", "div", "span"}
    links = page.evaluate("[...document.querySelectorAll('.sl-link')].map((one) => one.href)")
    assert links == ["https://a.example/", "http://b.example/"]
    shown = text_of(page)
    assert shown[0] == HOSTILE[0]
    assert shown[1] == HOSTILE[1]
    assert shown[3] == "link   end"
    assert shown[4] == HOSTILE[4]
    assert "owned" not in page.title()


def test_colours_are_classes_and_computed_styles(page: Page, site: LogSite) -> None:
    site.publish(
        "colours",
        "\x1b[1;31mred\x1b[0m \x1b[38;5;208mfrom 256\x1b[0m \x1b[38;2;10;200;30mtrue\x1b[48;5;21m ground\x1b[0m",
        close="completed",
    )
    page.goto(f"{site.url}/logs/colours/")
    connection(page, "Ended")
    assert page.locator(".sl-bold.sl-f1").inner_text() == "red"
    colours = page.evaluate("[...document.querySelectorAll('.sl-t span')].map((one) => getComputedStyle(one).color)")
    assert len(set(colours[:3])) == 3
    assert (
        page.evaluate("getComputedStyle([...document.querySelectorAll('.sl-t span')].at(-1)).backgroundColor") == "rgb(0, 0, 255)"
    )


def test_following_pauses_when_one_scrolls_up_and_says_how_many_lines_are_new(page: Page, site: LogSite) -> None:
    site.publish("follow", *(f"line {n}" for n in range(500)))
    page.goto(f"{site.url}/logs/follow/")
    wait_for_lines(page, 500)
    connection(page, "Live")
    at_end = (
        "(() => { const v = document.querySelector('.sl-view'); return v.scrollHeight - v.scrollTop - v.clientHeight < 3; })()"
    )
    page.wait_for_function(at_end)
    page.locator(".sl-view").hover()
    page.mouse.wheel(0, -600)
    expect(page.get_by_role("button", name="Follow the end")).to_have_attribute("aria-pressed", "false")
    page.wait_for_function(SCROLLED_UP)
    resting(page)
    site.publish("follow", *(f"more {n}" for n in range(214)))
    expect(page.locator(".sl-news")).to_have_text("↓ 214 new lines")
    before = page.evaluate("document.querySelector('.sl-view').scrollTop")
    site.publish("follow", "and one")
    expect(page.locator(".sl-news")).to_have_text("↓ 215 new lines")
    assert page.evaluate("document.querySelector('.sl-view').scrollTop") == before
    page.locator(".sl-news").click()
    page.wait_for_function(at_end)
    expect(page.locator(".sl-news")).to_be_hidden()
    expect(page.locator(".sl-view")).to_be_focused()
    site.publish("follow", "the last")
    wait_for_lines(page, 716)
    page.wait_for_function(at_end)


def test_a_link_to_a_line_opens_its_group_and_waits_for_a_line_that_is_not_there_yet(page: Page, site: LogSite) -> None:
    site.publish(
        "linked", "::group::Install", *(f"package {n}" for n in range(300)), "::endgroup::", *(f"line {n}" for n in range(300))
    )
    page.goto(f"{site.url}/logs/linked/#L120-L122")
    wait_for_lines(page, 600)
    expect(page.locator(".sl-target")).to_have_count(3)
    expect(page.locator("#L120")).to_be_in_viewport()
    expect(page.locator("#L120")).to_have_class(re.compile("sl-target"))
    page.goto(f"{site.url}/logs/linked/#L700")
    page.reload()
    wait_for_lines(page, 600)
    assert page.locator(".sl-target").count() == 0
    site.publish("linked", *(f"later {n}" for n in range(200)))
    expect(page.locator("#L700")).to_be_in_viewport()
    expect(page.locator("#L700")).to_have_class(re.compile("sl-target"))


def test_clicking_a_number_makes_a_link_and_with_shift_a_range(page: Page, site: LogSite) -> None:
    site.publish("clicked", *(f"line {n}" for n in range(1, 31)))
    page.goto(f"{site.url}/logs/clicked/")
    wait_for_lines(page, 30)
    page.locator("#L12 .sl-n").click()
    expect(page).to_have_url(re.compile("#L12$"))
    page.locator("#L15 .sl-n").click(modifiers=["Shift"])
    expect(page).to_have_url(re.compile("#L12-L15$"))
    expect(page.locator(".sl-target")).to_have_count(4)


def test_groups_fold_when_they_end_well_and_stay_open_when_they_fail(page: Page, site: LogSite) -> None:
    site.publish(
        "groups", "::group::Good", "a", "::endgroup::", "::group::Bad", "::error::broken", "::endgroup::", "::group::Going", "b"
    )
    page.goto(f"{site.url}/logs/groups/")
    connection(page, "Live")
    titles = page.locator(".sl-title")
    expect(titles).to_have_count(3)
    states = "[...document.querySelectorAll('.sl-turn')].map((one) => one.getAttribute('aria-expanded'))"
    assert page.evaluate(states) == ["false", "true", "true"]
    expect(titles.nth(2)).not_to_have_class(re.compile("sl-over"))
    expect(page.get_by_text("a", exact=True)).to_have_count(0)
    titles.nth(0).locator(".sl-t").click()
    expect(page.get_by_text("a", exact=True)).to_be_visible()
    titles.nth(0).get_by_role("button", name="Group Good").press("Enter")
    expect(page.get_by_text("a", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Fold or unfold all groups").click()
    assert page.evaluate(states) == ["false", "false", "false"]
    expect(page.locator(".sl-line")).to_have_count(3)
    page.get_by_role("button", name="Fold or unfold all groups").click()
    site.publish("groups", ("exit", '{"code": 1}'), close="failed")
    expect(titles.nth(2)).to_have_class(re.compile("sl-failed"))
    assert page.evaluate(states) == ["true", "true", "true"]


def test_a_line_that_fails_is_folded_under_no_group(page: Page, site: LogSite) -> None:
    lines = [
        "::group::tests",
        "fine",
        "FAILED tests/test_a.py::test_b - assert 1 == 2",
        "::endgroup::",
        "::group::Build",
        "ok",
        "::endgroup::",
    ]
    site.publish("hides", *lines, close="failed")
    page.goto(f"{site.url}/logs/hides/")
    connection(page, "Ended")
    expect(page.locator("#L3")).to_be_in_viewport()
    expect(page.locator(".sl-turn").nth(1)).to_have_attribute("aria-expanded", "false")
    assert "ok" not in text_of(page)


def test_keys_work_while_nothing_else_has_the_focus(page: Page, site: LogSite) -> None:
    site.publish("keys", *(f"line {n}" for n in range(1, 201)))
    page.goto(f"{site.url}/logs/keys/")
    wait_for_lines(page, 200)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("g")
    expect(page.locator("#L1")).to_be_in_viewport()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("line 1")
    expect(page.locator(".sl-found")).to_have_text("1 of 111")
    page.keyboard.press("Tab")
    page.keyboard.press("n")
    expect(page.locator(".sl-found")).to_have_text("2 of 111")
    page.keyboard.press("N")
    expect(page.locator(".sl-found")).to_have_text("1 of 111")
    page.keyboard.press("g")
    expect(page.locator("#L1")).to_be_in_viewport()
    page.keyboard.press("G")
    expect(page.locator("#L200")).to_be_in_viewport()
    page.keyboard.press("w")
    expect(page.locator("sse-log")).to_have_class(re.compile("sl-nowrap"))
    page.keyboard.press("t")
    page.keyboard.press("t")
    expect(page.get_by_role("button", name="Times: clock (t)")).to_be_visible()
    expect(page.locator("#L200 .sl-n")).to_have_attribute("data-t", re.compile(r"^\d{1,2}:\d\d:\d\d"))
    page.keyboard.press("m")
    expect(page.locator("sse-log")).to_have_class(re.compile("sl-fills"))
    page.keyboard.press("Escape")
    expect(page.locator("sse-log")).not_to_have_class(re.compile("sl-fills"))
    page.reload()
    wait_for_lines(page, 200)
    expect(page.locator("sse-log")).to_have_class(re.compile("sl-nowrap"))  # remembered


def test_lines_that_are_no_longer_kept_are_told_and_numbers_go_on(page: Page, site: LogSite) -> None:
    site.publish("trimmed", *(f"line {n}" for n in range(1, 101)))
    site.post("_publish/logs.trimmed/?keep=90")
    page.goto(f"{site.url}/logs/trimmed/#L100")
    expect(page.locator("#L100")).to_be_in_viewport()
    page.keyboard.press("g")
    expect(page.locator(".sl-note")).to_have_text("Lines 1 to 10 are no longer kept.")
    rows = rows_of(page)[1:]
    assert [row["number"] for row in rows] == list(range(11, 101))
    assert rows[0]["text"] == "line 11"


def test_copying_takes_the_lines_that_the_address_names(page: Page, site: LogSite) -> None:
    site.publish("copied", *(f"\x1b[3{n}mline {n}\x1b[0m" for n in range(1, 8)))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page.goto(f"{site.url}/logs/copied/#L2-L3")
    wait_for_lines(page, 7)
    page.get_by_role("button", name="Copy").click()
    flashed(page, "Copied 2 lines")
    assert page.evaluate("navigator.clipboard.readText()") == "line 2\nline 3"


def test_what_could_not_be_copied_is_not_said_to_be(page: Page, site: LogSite) -> None:
    site.publish("not-copied", *(f"line {n}" for n in range(1, 8_001)), close="completed")
    page.route(re.compile(r"/range/.*from=1&"), lambda route: route.abort())
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false;")
    page.goto(f"{site.url}/logs/not-copied/#L7990-L7991")
    expect(page.locator("#L7990 .sl-t")).to_have_text("line 7990")
    copy = page.get_by_role("button", name="Copy")
    copy.click()
    flashed(page, "Not copied: the browser did not allow it.")
    expect(copy).to_be_focused()
    page.evaluate("document.querySelector('.sl-view').focus()")
    page.keyboard.press("Escape")
    copy.click()
    flashed(page, "Not copied: some lines cannot be read now.")


def test_times_count_from_the_first_line_also_where_the_log_says_how_long_it_took(page: Page, site: LogSite) -> None:
    site.publish("timed", "one")
    page.wait_for_timeout(1100)
    site.publish("timed", "two", ("exit", '{"code": 0, "seconds": 75}'), close="completed")
    page.goto(f"{site.url}/logs/timed/")
    expect(page.locator(".sl-elapsed")).to_have_text("1 min 15 s")
    page.locator(".sl-view").press("t")
    expect(page.locator("#L1 .sl-n")).to_have_attribute("data-t", "+0.0 s")
    expect(page.locator("#L2 .sl-n")).to_have_attribute("data-t", re.compile(r"^\+[1-9][0-9.]* s$"))


def test_times_are_those_of_the_log_where_its_last_page_has_no_line(page: Page, site: LogSite) -> None:
    site.publish("paged", *(f"line {n}" for n in range(1, 1001)))
    page.wait_for_timeout(1100)
    site.publish("paged", ("exit", '{"code": 0}'), close="completed")
    page.goto(f"{site.url}/logs/paged/")
    connection(page, "Ended")
    expect(page.locator(".sl-elapsed")).to_have_text(re.compile(r"^[1-9][0-9.]* s$"))


def test_what_stands_around_a_failure_is_read_too_and_it_counts_once(page: Page, site: LogSite) -> None:
    site.publish("midst", *many_tests(), close="failed")
    page.goto(f"{site.url}/logs/midst/")
    expect(page.locator("#L9183")).to_contain_text("FAILED")
    expect(page.locator("#L9183")).to_be_in_viewport()
    page.wait_for_function("() => document.querySelector('sse-log').text.split('\\n').length === 12413")  # no page is left out
    expect(page.locator(".sl-errors")).to_have_text("1 error")


def test_the_text_can_be_downloaded(page: Page, site: LogSite) -> None:
    site.publish("saved", "one", ("stderr", "two"), EXIT, close="completed")
    page.goto(f"{site.url}/logs/saved/")
    connection(page, "Ended")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download").click()
    assert waiting.value.suggested_filename == "logs.saved.log"
    assert waiting.value.path().read_text() == "one\ntwo\n"


def test_a_visitor_who_is_not_signed_in_gets_a_message(page: Page, site: LogSite) -> None:
    site.publish("secret", "something")
    page.goto(f"{site.url}/private/secret/")
    connection(page, re.compile("Signed out"))
    link = page.get_by_role("link", name="Sign in again")
    assert "/login/?next=%2Fprivate%2Fsecret%2F" in (link.get_attribute("href") or "")


def signed_in(page: Page, site: LogSite, user: str, path: str) -> None:
    page.goto(f"{site.url}/login/?next={path}")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Sign in").click()


def test_who_may_not_see_a_log_is_told_so(page: Page, site: LogSite) -> None:
    signed_in(page, site, "guest", "/staff/for-staff-alone/")
    connection(page, "You may not see this log.")
    expect(page.locator(".sl-view")).to_have_text("You may not see this log.")
    assert page.get_by_role("link", name="Sign in again").count() == 0


def test_a_log_that_is_not_there_is_told_so(page: Page, site: LogSite) -> None:
    page.goto(f"{site.url}/missing/nowhere/")
    connection(page, "There is no such log.")


def test_a_session_that_ends_while_the_stream_is_open_says_signed_out(page: Page, site: LogSite) -> None:
    site.publish("held", "something")
    signed_in(page, site, "staff", "/held/held/")
    connection(page, "Live")
    page.context.request.get(f"{site.url}/out/")  # as in another tab
    connection(page, re.compile("Signed out"))
    assert text_of(page) == ["something"]


def test_a_stream_that_staff_closed_is_not_the_end_of_the_log(page: Page, site: LogSite) -> None:
    site.publish("kicked", "one")
    page.route("**/log/", lambda route: route.fulfill(body=KICKED if route.request.method == "GET" else "", content_type=STREAM))
    page.goto(f"{site.url}/logs/kicked/")
    connection(page, "This page’s stream was closed. Reload the page to open another.")
    assert not page.title().startswith("■")


def test_a_session_that_ends_is_seen_when_the_stream_comes_back(page: Page, site: LogSite) -> None:
    site.publish("session", "something")
    signed_in(page, site, "staff", "/private/session/")
    connection(page, "Live")
    assert text_of(page) == ["something"]
    page.context.clear_cookies()
    connection(page, re.compile("Signed out"))
    assert text_of(page) == ["something"]


@pytest.mark.parametrize("width", [375, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, site: LogSite, axe: str, width: int, scheme: str) -> None:
    name = f"axe{width}{scheme}"
    site.publish(
        name, *building(), *(f"\x1b[{code}m colour {code} \x1b[0m" for code in (*range(30, 38), *range(90, 98), *range(40, 48)))
    )
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{site.url}/logs/{name}/")
    connection(page, "Live")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("searchbox").fill("test")
    page.evaluate(axe)
    found = page.evaluate("axe.run('sse-log')")["violations"]
    assert [(one["id"], [node["html"] + node["failureSummary"] for node in one["nodes"]][:3]) for one in found] == []


def test_roles_are_quiet_where_lines_pour_and_polite_where_they_are_counted(page: Page, site: LogSite) -> None:
    site.publish("roles", "one", close="completed")
    page.goto(f"{site.url}/logs/roles/")
    connection(page, "Ended")
    assert page.get_by_role("log").get_attribute("aria-live") == "off"
    expect(page.locator("sse-log [role=status]")).to_contain_text("Completed, 1 line", timeout=60_000)


def test_what_the_viewer_shows_is_the_log_line_for_line(page: Page, site: LogSite) -> None:
    lines = [f"\x1b[{n % 7 + 31}mline {n}\x1b[0m" for n in range(12_345)]
    site.publish("equal", *lines, close="completed")
    page.goto(f"{site.url}/logs/equal/")
    connection(page, "Ended")
    assert text_of(page) == [plain(line) for line in lines]
    assert numbers_of(page) == list(range(1, len(lines) + 1))
