"""The catalogs in ``django_agent_sse/locale``: read, written from the source, and compiled, without a program of the system."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from babel.messages import Catalog
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po

from .texts import HOME, Text, texts_of_python, texts_of_templates

LOCALE = HOME / "locale"
HEADER = """Translations of django-agent-sse.
This file is distributed under the license of the package."""
ANY_DATE = datetime(2026, 1, 1, tzinfo=UTC)
"""So that the same translations make the same file, whenever that is."""
PLURALS = {
    "ar": "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 && n%100<=99 ? 4 : 5;",
    "de": "nplurals=2; plural=(n != 1);",
}
"""As Django has them: a language has one rule in all catalogs of a project."""


def languages() -> list[str]:
    return sorted(path.name for path in LOCALE.iterdir())


def file_of(language: str, kind: str = "po") -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"django.{kind}"


def texts() -> dict[Text, list[str]]:
    """Every text of the package, with the files in which it stands."""
    found: dict[Text, set[str]] = {}
    for said in (texts_of_python(), texts_of_templates()):
        for text, place in said.items():
            found.setdefault(text, set()).add(place.partition(":")[0])
    singular = {(text.id, text.context) for text in found if text.plural}
    return {
        text: sorted(places) for text, places in sorted(found.items()) if text.plural or (text.id, text.context) not in singular
    }


def read(language: str) -> Catalog:
    with file_of(language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(language: str) -> Catalog:
    with file_of(language, "mo").open("rb") as file:
        return read_mo(file)


def updated(language: str, known: dict[Text, tuple[str, ...]] | None = None) -> Catalog:
    """A catalog with exactly the texts of the source, translated as in the file, or as in ``known``."""
    before = read(language) if file_of(language).exists() else Catalog()
    catalog = Catalog(locale=language, header_comment=f"# {HEADER.replace(chr(10), chr(10) + '# ')}", charset="utf-8")
    for text, places in texts().items():
        old = before.get(text.id, context=text.context or None)
        given = (known or {}).get(text)
        key = (text.id, text.plural) if text.plural else text.id
        string = (given if text.plural else given[0]) if given else old.string if old is not None and not old.fuzzy else ""
        catalog.add(key, string or None, locations=[(place, None) for place in places], context=text.context or None)
    return catalog


def write(language: str, catalog: Catalog) -> None:
    """Write a catalog and what is compiled of it; the same input makes the same files."""
    folder = file_of(language).parent
    folder.mkdir(parents=True, exist_ok=True)
    out = BytesIO()
    write_po(out, catalog, width=120, omit_header=True)
    head = (
        f'msgid ""\nmsgstr ""\n"Language: {language}\\n"\n"MIME-Version: 1.0\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
    )
    head += f'"Content-Transfer-Encoding: 8bit\\n"\n"Plural-Forms: {PLURALS[language]}\\n"\n\n'
    comment = "".join(f"# {line}\n" for line in HEADER.splitlines())
    file_of(language).write_text(comment + head + out.getvalue().decode(), encoding="utf-8")
    made = read(language)
    made.creation_date = made.revision_date = ANY_DATE
    with file_of(language, "mo").open("wb") as file:
        write_mo(file, made)


def missing(catalog: Catalog) -> list[str]:
    """The texts that have no translation, or not every form of one."""
    forms = catalog.num_plurals
    return [
        str(message.id)
        for message in catalog
        if (message.id and (not all(message.string) if message.pluralizable else not message.string or len(message.string) < 1))
        or (message.id and message.pluralizable and len(message.string) != forms)
    ]
