"""Several logs of one thing in Chromium: states that change, links, and the log of the step that is chosen."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from .demo import building, failing
from .serving import LogSite

_EDGES = """() => [...document.querySelectorAll(".sse-logs-name, .sse-logs-time")].filter((one) => one.textContent).map((one) => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return Math.round(range.getBoundingClientRect().right);
})"""
"""Where the text of names and times begins on a page that runs from right to left."""


def test_the_steps_stand_beside_the_log_of_one_and_change_as_they_do(page: Page, site: LogSite, axe: str) -> None:
    site.publish("a-lint", "clean", close="completed")
    site.publish("a-test", "line 1")
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url))
    page.goto(f"{site.url}/several/a/")
    lint, test, deploy = (page.locator(f"a[data-step={name}]") for name in ("lint", "test", "deploy"))
    expect(lint.locator(".sse-logs-status")).to_have_text("Completed")
    expect(test).to_have_attribute("aria-current", "true")
    expect(page.locator("sse-log .sl-t").first).to_have_text("line 1")
    expect(deploy).to_have_attribute("data-tone", "idle")
    site.publish("a-test", "ERROR: no", close="failed")
    expect(test.locator(".sse-logs-status")).to_have_text("Failed")
    expect(test.locator(".sse-logs-errors")).to_have_text("Errors")
    expect(test.locator(".sse-logs-time")).to_have_text(re.compile(r"^\d+\.\d s$"))
    site.publish("a-deploy", "up")
    expect(deploy).to_have_attribute("data-tone", "busy")
    assert [url for url in streams if url.endswith("/all/")] == [f"{site.url}/steps/a/all/"], "one stream has all the states"
    page.evaluate(axe)
    found = page.evaluate("axe.run(document.querySelector('.sse-logs-steps'))")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


def test_axe_finds_nothing_at_any_width_and_it_fits(page: Page, site: LogSite, axe: str) -> None:
    site.publish("d-lint", "clean", close="completed")
    site.publish("d-test", *building(), *failing(), close="failed")
    page.goto(f"{site.url}/several/d/")
    expect(page.locator("a[data-step=test] .sse-logs-errors")).to_be_visible()
    expect(page.locator(".sl-errors")).to_be_visible()
    page.evaluate(axe)
    for width in (375, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = page.evaluate("axe.run('sse-logs')")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], f"at {width} px"
        names, log = (page.locator(part).bounding_box() for part in (".sse-logs-steps", "sse-log"))
        assert names is not None
        assert log is not None
        assert (names["x"] + names["width"] <= log["x"]) == (width > 720), "beside the log where there is room, else above it"


def test_a_step_took_as_long_as_the_header_of_its_log_says(page: Page, site: LogSite) -> None:
    site.publish("e-lint", "clean", ("exit", '{"code": 0, "seconds": 75}'), close="completed")
    site.publish("e-test", "no", ("exit", '{"code": 1, "seconds": 12.5}'), close="failed")
    page.goto(f"{site.url}/several/e/")
    for step, took in (("test", "12.5 s"), ("lint", "1 min 15 s")):
        page.locator(f"a[data-step={step}]").click()
        expect(page.locator(f"a[data-step={step}][aria-current] .sse-logs-time")).to_have_text(took)
        expect(page.locator(f"sse-log[label={step}] .sl-elapsed")).to_have_text(took)
        page.locator(".sl-view").press("t")
        before = {"test": "12", "lint": "1 min 14|1 min 15"}[step]
        expect(page.locator(f"sse-log[label={step}] .sl-line .sl-n").first).to_have_attribute(
            "data-t", re.compile(rf"^\+({before})")
        )
        for _ in range(2):
            page.locator(".sl-view").press("t")


def test_the_states_are_said_in_the_language_of_the_reader(chromium: Browser, site: LogSite) -> None:
    site.publish("c-lint", "clean", close="completed")
    site.publish("c-test", *("ERROR: no" for _ in range(3)), close="on fire")
    context = chromium.new_context(locale="ar")
    page = context.new_page()
    page.goto(f"{site.url}/several/c/")
    said = {step: page.locator(f"a[data-step={step}] .sse-logs-status") for step in ("lint", "test", "deploy")}
    expect(said["lint"]).to_have_text("اكتمل")
    expect(said["test"]).to_have_text("On fire")
    expect(said["deploy"]).to_have_text("ينتظر")
    expect(page.locator("a[data-step=test] .sse-logs-errors")).to_have_text("الأخطاء")
    site.publish("c-deploy", "ERROR: no", close="failed")
    expect(said["deploy"]).to_have_text("فشل")
    expect(page.locator("a[data-step=deploy] .sse-logs-errors")).to_have_text("الأخطاء")
    names, log = (page.locator(part).bounding_box() for part in (".sse-logs-steps", "sse-log"))
    assert names is not None
    assert log is not None
    assert names["x"] > log["x"], "the steps stand where the page begins"
    edges = page.evaluate(_EDGES)
    assert len(set(edges)) == 1, "names, too, begin where the lines of the page do"
    context.close()


def test_a_link_within_the_page_leaves_the_log_as_it_is(page: Page, site: LogSite) -> None:
    site.publish("g-test", *(f"line {n}" for n in range(1, 301)), close="failed")
    page.goto(f"{site.url}/several/g/")
    expect(page.locator("sse-log .sl-t").last).to_have_text("line 300")
    page.evaluate("window.log = document.querySelector('sse-log')")
    page.evaluate("location.hash = '#L7'")
    expect(page.locator("#L7")).to_be_in_viewport()
    page.evaluate("() => addEventListener('popstate', () => { window.popped = true; })")
    page.go_back()
    page.wait_for_function("() => window.popped")
    assert page.evaluate("window.log === document.querySelector('sse-log')")


def test_a_step_is_opened_by_its_link_and_the_address_leads_back_to_it(page: Page, site: LogSite) -> None:
    site.publish("b-lint", "clean", close="completed")
    site.publish("b-test", "broken", close="failed")
    page.goto(f"{site.url}/several/b/")
    expect(page.locator("sse-log .sl-t").first).to_have_text("broken")
    page.evaluate("window.same = true")
    page.locator("a[data-step=lint]").click()
    expect(page.locator("sse-log .sl-t").first).to_have_text("clean")
    expect(page).to_have_url(f"{site.url}/several/b/?step=lint")
    assert page.evaluate("window.same"), "without loading the page"
    page.go_back()
    expect(page.locator("sse-log .sl-t").first).to_have_text("broken")
    page.go_forward()
    expect(page.locator("sse-log .sl-t").first).to_have_text("clean")
    page.reload()
    expect(page.locator("a[data-step=lint]")).to_have_attribute("aria-current", "true")
    expect(page.locator("sse-log .sl-t").first).to_have_text("clean")
    assert page.evaluate("['test', 'none'].map((step) => document.querySelector('sse-logs').open(step))") == [True, False]
    expect(page.locator("sse-log .sl-t").first).to_have_text("broken")
