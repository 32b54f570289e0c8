"""``{% sse_log %}``, ``{% sse_script %}`` and ``{% event_stream %}``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template import Context, Template, TemplateSyntaxError
from django.test import override_settings
from django.utils import timezone

from django_agent_sse import Event, Router, Topic
from django_agent_sse.assets import FOLDERS, _minified, asset
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import AsyncRequired, EventLogUnavailable
from django_agent_sse.logs import plain
from django_agent_sse.templatetags.agent_sse import ICONS, SCRIPTS, WORKERS
from tests.serving import served


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A log without topics, and a route to one of its logs."""
    event_log().clear_all()
    router = Router()
    router.log("builds/<int:id>/log/", "builds.{id}", name="build-log")
    router.topic("bare/<int:id>/", "builds.{id}", name="bare")
    with served(router):
        yield
    event_log().clear_all()


def rendered(tag: str, **context: Any) -> str:
    return Template(f"{{% load agent_sse %}}{tag}").render(Context(context))


def attributes(html: str) -> dict[str, str]:
    found = re.search(r"<sse-log([^>]*)>", html)
    assert found
    return {name: unescape(value) for name, value in re.findall(r' ([\w-]+)="([^"]*)"', found[1])}


def written(*lines: object, topic: str = "builds.1") -> Topic:
    Topic(topic).publish_many(lines)
    return Topic(topic)


def test_the_viewer_knows_where_everything_is_served_and_where_the_page_ends() -> None:
    topic = written("one", "two")
    assert attributes(rendered('{% sse_log "builds.1" "/builds/1/log/" label="A & B" login="/in/" %}')) == {
        "src": "/builds/1/log/",
        "raw": "/builds/1/log/raw/",
        "range": "/builds/1/log/range/",
        "position": f"{topic.state().epoch}.2",
        "label": "A & B",
        "status": "running",
        "login": "/in/",
    }


def test_a_stream_without_parts_has_none() -> None:
    found = attributes(rendered('{% sse_log "builds.1" "/bare/1/" %}'))
    assert found == {"src": "/bare/1/", "position": "0", "status": "waiting"}


def test_what_is_known_of_the_run_is_told() -> None:
    html = rendered(
        '{% sse_log "builds.1" "/bare/1/" status="passed" started=at ended=at exit_code=0 raw="/r/" %}',
        at=datetime(2026, 11, 25, tzinfo=UTC),
    )
    assert attributes(html) == {
        "src": "/bare/1/",
        "raw": "/r/",
        "position": "0",
        "status": "passed",
        "started": "2026-11-25T00:00:00+00:00",
        "ended": "2026-11-25T00:00:00+00:00",
        "exit-code": "0",
    }


ZONES = {
    "the server's zone": (True, "Europe/Berlin", datetime(2026, 1, 1, 12), "2026-01-01T12:00:00+01:00"),
    "a project without zones": (False, "Europe/Berlin", datetime(2026, 7, 1, 12), "2026-07-01T12:00:00+02:00"),
    "the system's zone": (False, None, datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 12).astimezone().isoformat()),
    "a time with a zone": (False, "Europe/Berlin", datetime(2026, 1, 1, 12, tzinfo=UTC), "2026-01-01T12:00:00+00:00"),
    "an hour that came twice": (True, "Europe/Berlin", datetime(2026, 10, 25, 2, 30, fold=1), "2026-10-25T02:30:00+01:00"),
    "text": (False, "Asia/Tokyo", "2026-01-01 12:00:00", "2026-01-01T12:00:00+09:00"),
    "text with a zone": (False, "Asia/Tokyo", "2026-01-01T12:00:00Z", "2026-01-01T12:00:00+00:00"),
    "text that is no time": (False, "Asia/Tokyo", "2026-02-31T12:00:00", "2026-02-31T12:00:00"),
}


@pytest.mark.parametrize(("use_tz", "zone", "at", "told"), ZONES.values(), ids=ZONES)
def test_a_time_is_told_with_its_zone(use_tz: bool, zone: str | None, at: object, told: str) -> None:
    with override_settings(USE_TZ=use_tz):
        timezone.get_default_timezone.cache_clear()
        settings.TIME_ZONE = zone  # plainly: override_settings() would change the zone of this process
        try:
            found = attributes(rendered('{% sse_log "builds.1" "/bare/1/" started=at ended=at %}', at=at))
        finally:
            timezone.get_default_timezone.cache_clear()
    assert (found["started"], found["ended"]) == (told, told)


@pytest.mark.parametrize(("reason", "status"), [("completed", None), ("failed", "failed")])
def test_a_closed_log_says_how_it_ended(reason: str, status: str | None) -> None:
    written("one").close(reason)
    assert attributes(rendered('{% sse_log "builds.1" "/bare/1/" %}')).get("status") == status


def test_the_last_lines_stand_in_the_page_as_text() -> None:
    written(
        *(f"line {n}" for n in range(200)),
        "\x1b[31m<script>\x1b[0m & more",
        Event("a\nb", event="stderr"),
        Event("{}", event="exit"),
    )
    html = rendered('{% sse_log "builds.1" "/builds/1/log/" lines=4 %}')
    assert '<pre dir="ltr">\nline 199\n&lt;script&gt; &amp; more\na\nb\n</pre>' in html
    assert '<a href="/builds/1/log/raw/">' in html
    assert "\x1b" not in html
    assert "line" not in re.sub(
        r"The last \d+ lines|<sse-log[^>]*>", "", rendered('{% sse_log "builds.1" "/builds/1/log/" lines=0 %}')
    )


def test_buttons_are_forms_with_a_token() -> None:
    actions = [
        SimpleNamespace(label="Stop <it>", url="/stop/", when="running", hidden=False),
        SimpleNamespace(label="Again", url="/again/", when="ended", hidden=True),
    ]
    html = rendered('{% sse_log "builds.1" "/builds/1/log/" actions=actions %}', actions=actions, csrf_token="token")
    assert re.findall(r'<form method="post" action="(\S+)" data-when="(\w+)"( hidden)?>', html) == [
        ("/stop/", "running", ""),
        ("/again/", "ended", " hidden"),
    ]
    assert html.count('name="csrfmiddlewaretoken" value="token"') == 2
    assert "Stop &lt;it&gt;" in html


def test_a_page_is_rendered_though_the_log_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise EventLogUnavailable("the store is away")

    monkeypatch.setattr(event_log(), "_state", fails)
    found = attributes(rendered('{% sse_log "builds.1" "/builds/1/log/" %}'))
    assert (found.get("position"), found["status"]) == (None, "waiting")
    assert "the store is away" in caplog.text


async def test_on_an_event_loop_it_says_what_to_do() -> None:
    with pytest.raises(AsyncRequired, match="sync_to_async"):
        rendered('{% sse_log "builds.1" "/builds/1/log/" %}')


def test_scripts_carry_the_addresses_of_what_they_import() -> None:
    html = rendered("{% sse_script %}")
    names = re.findall(r'(?:src|href|data-[\w-]+)="/?static/(django_agent_sse/[\w.-]+)"', html)
    modules = [f"{module}.js" for module in SCRIPTS["log"]] + [f"{icon}.svg" for icon in ICONS["log"]]
    assert sorted(set(names)) == sorted(f"django_agent_sse/{name}" for name in ("log.css", "log.js", *modules))
    assert {"client.js", "words.js"} < set(modules)
    assert all(finders.find(name) for name in names)
    assert 'type="module"' in html
    assert "nonce" not in html
    assert "log.css" not in rendered('{% sse_script "element" %}')
    assert 'src="static/django_agent_sse/element.js"' in rendered('{% sse_script "element" %}').replace('"/static', '"static')


def test_scripts_have_hashed_names_where_the_storage_makes_them(settings: Any, tmp_path: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    from django.core.management import call_command

    with override_settings(STORAGES={**settings.STORAGES, "staticfiles": storage}, STATIC_ROOT=str(tmp_path)):
        call_command("collectstatic", verbosity=0, interactive=False)
        html = rendered("{% sse_script %}")
    assert len(re.findall(r'="/?static/django_agent_sse/[\w-]+\.[0-9a-f]{12}\.(?:js|css|svg)"', html)) == 2 + len(
        SCRIPTS["log"]
    ) + len(ICONS["log"]) + len(SCRIPTS["log"]) - len(WORKERS)
    preloaded = preloads(html)
    tag = dict(re.findall(r' data-([\w-]+)="([^"]+)"', html))
    assert preloaded == [tag[module] for module in SCRIPTS["log"] if module not in WORKERS], "by the names that are imported"


def preloads(html: str) -> list[str]:
    return re.findall(r'<link rel="modulepreload" href="([^"]+)"', html)


IMPORTS = {
    "log": r"^  \w+: \(\) => import\(\"\./([\w-]+)\.js\"\),$",
    "logs": r"\"([\w-]+)\"(?=[^\[\]]*\]\.map\(load\))",
    "element": r"\bimport\(\"\./([\w-]+)\.js\"\)",
}
"""How each script says what it imports."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_fetched_early_is_what_is_imported(name: str) -> None:
    home = FOLDERS["django_agent_sse"]
    imported = re.findall(IMPORTS[name], (home / f"{name}.js").read_text(encoding="utf-8"), re.MULTILINE)
    assert imported
    for module in {*SCRIPTS[name]} - {*WORKERS}:
        source = (home / f"{module}.js").read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*import\b|\bfrom \"|\bimport\(", re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL), re.MULTILINE
        ), module
    found = [path.rpartition("/")[2] for path in preloads(rendered(f'{{% sse_script "{name}" %}}'))]
    assert sorted(found) == sorted(f"{module}.js" for module in imported)


def test_two_scripts_fetch_what_both_import_once() -> None:
    html = rendered('{% sse_script "log" "logs" "element" %}', csp_nonce="abc")
    found = preloads(html)
    assert len(found) == len(set(found)) == len(SCRIPTS["log"]) - len(WORKERS)
    assert html.count('rel="modulepreload"') == len(re.findall(r'<link rel="modulepreload" href="[^"]+" nonce="abc">', html))
    assert html.index("modulepreload") < html.index("<script"), "before what imports them"


@pytest.fixture
def hashed(settings: Any, tmp_path: Any) -> None:
    """Static files have hashed names."""
    from django.core.management import call_command

    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    settings.STATIC_ROOT = str(tmp_path)
    call_command("collectstatic", verbosity=0, interactive=False)


NAMES = {"django-agent-sse", "django-agent-sse/element", "django-agent-sse/log", "django-agent-sse/react"}


def imports(html: str) -> dict[str, str]:
    found = re.fullmatch(r'<script type="importmap"(?: nonce="[^"]*")?>(.*)</script>', html)
    assert found
    return dict(json.loads(found[1])["imports"])


def test_an_import_map_names_the_modules() -> None:
    found = imports(rendered("{% sse_importmap %}"))
    assert found.keys() == NAMES
    assert found["django-agent-sse"].endswith("static/django_agent_sse/client.js")
    assert found["django-agent-sse/react"].endswith("static/django_agent_sse/react.js")


@pytest.mark.usefixtures("hashed")
def test_an_import_map_has_hashed_names_and_leads_to_them_from_the_plain_ones() -> None:
    found = imports(rendered("{% sse_importmap %}"))
    assert re.fullmatch(r"/?static/django_agent_sse/client\.[0-9a-f]{12}\.js", found["django-agent-sse"])
    plain_names = {path.name for path in FOLDERS["django_agent_sse"].glob("*.js")}
    leading = {name for name in found if name.endswith(".js")}
    assert {name.rpartition("/")[2] for name in leading} == plain_names
    assert all(found[name].startswith(name.removesuffix("js")) for name in leading)


def test_an_import_map_takes_more_names_and_a_nonce_and_nothing_ends_its_element() -> None:
    html = rendered("{% sse_importmap more %}", more={"lit": "https://example.org/lit.js?</script>"}, csp_nonce="abc")
    assert html.startswith('<script type="importmap" nonce="abc">{')
    assert html.count("</script>") == 1
    assert imports(html) | {"lit": "https://example.org/lit.js?</script>"} == imports(html)
    assert imports(html).keys() == NAMES | {"lit"}


@pytest.mark.parametrize("debug", [False, True])
def test_minified_files_are_taken_where_there_are_some_and_nobody_debugs(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, debug: bool
) -> None:
    (tmp_path / "min").mkdir()
    for name in ("client.js", "client.js.map", "log.css"):
        (tmp_path / "min" / name).touch()
    monkeypatch.setitem(FOLDERS, "django_agent_sse", tmp_path)
    _minified.cache_clear()
    settings.DEBUG = debug
    try:
        addresses = [asset(f"django_agent_sse/{name}") for name in ("client.js", "log.css", "log.js")]
    finally:
        _minified.cache_clear()
    prefix = addresses[2].removesuffix("log.js")
    folder = "" if debug else "min/"
    assert addresses == [f"{prefix}{folder}client.js", f"{prefix}{folder}log.css", f"{prefix}log.js"]


class Lazy:
    """A nonce of Django's that nobody has used yet: false, and yet there."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "lazy"


@pytest.mark.parametrize(
    ("context", "nonce"),
    [
        ({"csp_nonce": Lazy()}, "lazy"),
        ({"csp_nonce": "django"}, "django"),
        ({"request": SimpleNamespace(csp_nonce="django-csp")}, "django-csp"),
    ],
)
def test_scripts_and_styles_have_the_nonce_of_the_policy(context: dict[str, Any], nonce: str) -> None:
    assert rendered("{% sse_script %}", **context).count(f' nonce="{nonce}"') == 2 + len(SCRIPTS["log"]) - len(WORKERS)


def test_a_script_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TemplateSyntaxError, match='there are "log", "logs", "element"'):
        rendered('{% sse_script "viewer" %}')


def test_an_element_for_a_stream() -> None:
    html = rendered('{% event_stream url with_credentials="" share="x" %}', url="/updates/?a=1&b=2")
    assert html == '<event-stream src="/updates/?a=1&amp;b=2" with-credentials="" share="x"></event-stream>'


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07", "link"),
        ("10%\r50%\r100%", "100%"),
        ("done\r", "done"),
        ("\x1b(Ba\x00\x9b1mb\tc", "a1mb\tc"),
    ],
)
def test_a_line_without_its_control_sequences(line: str, shown: str) -> None:
    assert plain(line) == shown


def test_nothing_in_the_last_lines_turns_the_text_around() -> None:
    written("if admin\u202e\u2066 // x")
    assert "if admin\ufffd\ufffd // x" in rendered('{% sse_log "builds.1" "/builds/1/log/" lines=4 %}')
