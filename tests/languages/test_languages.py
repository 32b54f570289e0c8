"""Everything that a reader sees can be translated, and is, into German and Arabic."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from gettext import c2py  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po
from django import conf as django_conf
from django.utils import translation

from django_agent_sse import script_words
from django_agent_sse.contrib.monitor.admin.labels import SCRIPT
from django_agent_sse.script_words import LOG, STATUSES, status_text, words_of, words_tag
from tests.npm import Node

from . import catalogs
from .texts import HOME, prose_of_python, prose_of_template, templates

STATIC = HOME / "static/django_agent_sse"
MONITOR = HOME / "contrib/monitor/static/agent_sse_monitor/monitor.js"
FOR_PROGRAMS = {"client.js", "element.js", "failures.js", "levels.js", "react.js", "sgr.js"}
"""They say nothing to a reader: what they throw is for who writes the page."""
NOT_PROSE = {
    "export.py": {"the export of live streams is not whole: the process ", " has not told its next rows"},
    "kv.py": {", whose repr() raised "},
    "live_log.py": {
        "log_topic is ",
        'The log stands in the block content of the page: extend "admin/change_form.html", and call super().',
    },
    "topics.py": {"… [cut: the event has "},
    "draw.js": {"noopener noreferrer nofollow"},
    "finish.js": {"Notification"},
    "following.js": {"End"},
    "panel.js": {"error,warning"},
}
"""What stands in a log, or in an error for who writes the project."""


KEYS = {"End", "Enter", "Esc", "Escape", "Home"}


# What can be translated


def test_python_says_nothing_to_a_reader_without_gettext() -> None:
    found = [(text, place) for text, place in prose_of_python() if text not in NOT_PROSE.get(Path(place.split(":")[0]).name, ())]
    assert found == []


@pytest.mark.parametrize("path", templates(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_template_says_nothing_without_a_tag_for_translation(path: Path) -> None:
    assert [text for text in prose_of_template(path.read_text()) if text != "colM"] == []  # the name of a style


@pytest.mark.parametrize("source", ["<p>Hello there</p>", '<a title="Open it">x</a>', "{% if x %}yes{% endif %}"])
def test_prose_of_a_template_is_found(source: str) -> None:
    assert prose_of_template(f"{{% load i18n %}}<i>{{% translate 'Fine' %}}</i>{source}") != []


@pytest.fixture(scope="module")
def said(node: Node) -> dict[str, dict[str, Any]]:
    """What each script says, as ``said.mjs`` finds it."""
    files = [*sorted(STATIC.glob("*.js")), MONITOR]
    return dict(json.loads(node.run("said.mjs", *map(str, files))))


def test_scripts_say_nothing_to_a_reader_that_is_not_handed_over(said: dict[str, dict[str, Any]]) -> None:
    assert {name: found["wrong"] for name, found in said.items() if found["wrong"]} == {}
    prose = {
        name: [text for text, _ in found["prose"] if text not in NOT_PROSE.get(name, set()) | KEYS]
        for name, found in said.items()
        if name not in FOR_PROGRAMS
    }
    assert {name: found for name, found in prose.items() if found} == {}


def test_prose_of_a_script_is_found(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "page.js"
    script.write_text(
        't("Told"); x.textContent = "Not told"; y.title = `Nor ${z} is this`; t(`Bad`); throw new Error("For you only");'
    )
    (found,) = json.loads(node.run("said.mjs", str(script))).values()
    assert found == {"texts": [["Told", ""]], "prose": [["Not told", 1], ["Nor ", 1], [" is this", 1]], "wrong": [1]}


@pytest.mark.parametrize(("listed", "files"), [(LOG, None), (SCRIPT, {"monitor.js"})], ids=["log", "monitor"])
def test_what_is_handed_over_is_what_the_scripts_say(
    said: dict[str, dict[str, Any]], listed: tuple[script_words.Message, ...], files: set[str] | None
) -> None:
    spoken = {
        (one, many) if many else one
        for name, found in said.items()
        if (name in files if files else name != "monitor.js")
        for one, many in found["texts"]
    }
    assert set(listed) == spoken
    assert len(listed) == len(set(listed))


# The catalogs


@pytest.mark.parametrize("language", catalogs.languages())
def test_a_catalog_has_every_text_and_no_other_and_is_whole(language: str) -> None:
    catalog = catalogs.read(language)
    ids = {(message.id, message.context) for message in catalog if message.id}
    wanted = {((text.id, text.plural) if text.plural else text.id, text.context or None) for text in catalogs.texts()}
    assert ids == wanted, "python -m tests.languages brings it up to the source"
    assert catalogs.missing(catalog) == []
    assert [message.id for message in catalog if message.fuzzy and message.id] == []


def holes(text: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)s|\{\w*\}", text))


def markup(text: str) -> list[str]:
    return sorted(re.findall(r"<[^>]*>", text))


@pytest.mark.parametrize("language", catalogs.languages())
def test_a_translation_has_the_places_and_the_markup_of_its_text(language: str) -> None:
    for message in catalogs.read(language):
        if not message.id:
            continue
        texts = message.id if message.pluralizable else (message.id,)
        translations = message.string if message.pluralizable else (message.string,)
        for number, translated in enumerate(translations):
            counted = {"{count}", "%(count)s"} if message.pluralizable and number < len(translations) - 1 else set()
            assert holes(translated) | counted == holes(texts[-1]) | counted, translated
            assert markup(translated) == markup(texts[-1]), translated
            assert ('"' in translated) == ('"' in texts[-1]), f"{translated}: it may stand in an attribute"
            assert translated.strip() == translated


@pytest.mark.parametrize("language", catalogs.languages())
def test_what_is_compiled_is_the_catalog(language: str) -> None:
    def content(catalog: Any) -> dict[Any, Any]:
        return {
            (tuple(message.id) if message.pluralizable else message.id, message.context): tuple(message.string)
            for message in catalog
            if message.id
        }

    assert content(catalogs.compiled(language)) == content(catalogs.read(language))


def test_german_and_arabic_are_there() -> None:
    assert catalogs.languages() == ["ar", "de"]


# What is handed to scripts


def rules() -> dict[str, str]:
    """The plural rule of each language that Django has."""
    found = {}
    for path in sorted((Path(django_conf.__file__).parent / "locale").glob("*/LC_MESSAGES/django.po")):
        with path.open("rb") as file:
            found[path.parts[-3]] = read_po(file).plural_expr
    return found


COUNTS = [*range(1200), 10_000, 123_456, 999_999, 1_000_000, 1_000_001, 2_000_000, 10_000_000]
PICKED = """
const { speaker } = await import(process.env.WORDS);
const { given, counts } = JSON.parse((await import("node:fs")).readFileSync(process.env.GIVEN, "utf8"));
const picked = Object.fromEntries(Object.entries(given).map(([language, words]) => {
  const { t } = speaker(words ? [words] : [], "en");
  return [language, counts.map((count) => t("one", "many", { count }))];
}));
console.log(JSON.stringify(picked));
"""


def test_scripts_choose_the_plural_form_that_gettext_chooses(node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given, expected = {}, {}
    for language, rule in rules().items():
        form: Callable[[int], int] = c2py(rule)
        monkeypatch.setattr(script_words, "translate_plural", lambda one, many, count, form=form: f"form {form(count)}")
        given[language] = words_of([("one", "many")])
        expected[language] = [f"form {form(count)}" for count in COUNTS]
    assert len(expected) > 80
    (tmp_path / "given.json").write_text(json.dumps({"given": given, "counts": COUNTS}))
    environment = {"WORDS": (STATIC / "words.js").as_uri(), "GIVEN": str(tmp_path / "given.json")}
    program = tmp_path / "picked.mjs"
    program.write_text(PICKED)
    assert json.loads(node.run("--experimental-default-type=module", str(program), environment=environment)) == expected


def test_english_hands_nothing_over_and_a_project_may_say_it_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with translation.override("en"):
        assert words_tag(LOG) == ""
    with translation.override("de"):
        found = words_of(SCRIPT)
        assert found is not None
        assert (found["language"], found["words"]["All routes"]) == ("de", "Alle Routen")
    monkeypatch.setattr(script_words, "gettext", lambda text: f"{text}</script>")
    with translation.override("en"):
        tag = words_tag(["Search"])
    assert (tag.count("</script>"), json.loads(tag.partition(">")[2].rpartition("<")[0])["words"]) == (
        1,
        {"Search": "Search</script>"},
    )


SPOKEN = """
const { speaker } = await import(process.env.WORDS);
const said = (language, given) => {
  const { t, number, duration, direction } = speaker(given ? [given] : [], language);
  return [t("{count} line", "{count} lines", { count: 1234 }), t("{count} line", "{count} lines", { count: 1 }),
    t("File {name}", { name: "a.js" }), number(1234.5), duration(3.29), duration(65), duration(7620), direction];
};
const german = { language: "de", rules: ["10".padEnd(201, "1").replace(/^10/, "10")], words: {
  "{count} line": [0, "{count} Zeilen", "{count} Zeile"], "File {name}": "Datei {name}", "{seconds} s": "{seconds} Sek." } };
console.log(JSON.stringify([said("en"), said("de"), said("en", german), said("no such language"), said("ar")]));
"""


def test_numbers_and_times_are_written_as_the_language_of_the_page_writes_them(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "spoken.mjs"
    program.write_text(SPOKEN)
    environment = {"WORDS": (STATIC / "words.js").as_uri()}
    english, page, german, unknown, arabic = json.loads(
        node.run("--experimental-default-type=module", str(program), environment=environment)
    )
    assert english == ["1,234 lines", "1 line", "File a.js", "1,234.5", "3.2 s", "1 min 05 s", "2 h 07 min", "ltr"]
    assert page[:4] == ["1.234 lines", "1 line", "File a.js", "1.234,5"]
    assert german[2:5] == ["Datei a.js", "1.234,5", "3,2 Sek."]
    assert unknown == english
    assert arabic[-1] == "rtl"


def test_every_hole_of_a_python_text_has_a_name() -> None:
    """So that a translation may put them in another order."""
    for text in catalogs.texts():
        assert all(name for _, name, _, _ in string.Formatter().parse(text.id.replace("%(", "")) if name is not None), text


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.css")), ids=lambda path: path.name)
def test_styles_say_nothing_and_choose_by_nothing_that_is_translated(path: Path) -> None:
    css = path.read_text()
    assert re.findall(r'content: "[^"]*[a-zA-Z]{2,}[^"]*"', css) == []
    assert re.findall(r"\[(?:data-label|aria-label|title)[~|^$*]?=[^]]*\]", css) == []


def test_scripts_and_pages_know_the_same_statuses() -> None:
    script = (STATIC / "words.js").read_text()
    table = re.findall(r"(\w+): t\(\"(\w+)\"\)", script.partition("const STATUSES")[2].partition("});")[0])
    assert {name for name, _ in table} == STATUSES
    for name, text in table:
        assert name.capitalize() == text
        with translation.override("de"):
            assert status_text(name) != text or text == "Timeout", text
    assert [status_text(status) for status in ("FAILED", "on fire", "")] == ["Failed", "On fire", ""]
