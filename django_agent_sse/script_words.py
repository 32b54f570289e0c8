"""What scripts say, in the language of a request: handed to them as JSON, so that no page needs a catalog of its own.

A script calls ``t("Search")`` or ``t("{count} line", "{count} lines", {count})`` (``words.js``). Each of these texts stands here
too, where gettext finds it; ``tests/languages`` compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext, gettext_noop
from django.utils.translation import ngettext as translate_plural

from .assets import json_in_html

Message: TypeAlias = str | tuple[str, str]
"""A text, or a singular and its plural."""

COUNTS: Final = 200
"""Counts whose plural form is written down; above them every rule of gettext goes round in hundreds, but for whole millions."""


def ngettext(singular: str, plural: str) -> tuple[str, str]:
    """Mark a text with a plural for ``makemessages``, as ``gettext_noop`` marks one without."""
    return singular, plural


LOG: Final[Sequence[Message]] = (
    gettext_noop("{seconds} s"),
    gettext_noop("{minutes} min {seconds} s"),
    gettext_noop("{hours} h {minutes} min"),
)
"""What the log viewer says."""


def words_of(messages: Sequence[Message]) -> dict[str, Any] | None:
    """Return the translations of these texts for the active language, as ``words.js`` reads them; ``None`` where there are none.

    ``words`` has a text for each text that is translated, or the number of a rule and the forms of a plural. A rule has a digit
    for each count: which of the forms it takes.
    """
    words: dict[str, Any] = {}
    rules: list[str] = []
    for message in messages:
        if isinstance(message, str):
            if (text := gettext(message)) != message:
                words[message] = text
            continue
        singular, plural = message
        said = [translate_plural(singular, plural, count) for count in (*range(COUNTS), 1_000_000)]
        forms = list(dict.fromkeys(said))
        if set(forms) <= {singular, plural}:
            continue
        rule = "".join(str(forms.index(text)) for text in said)
        if rule not in rules:
            rules.append(rule)
        words[singular] = [rules.index(rule), *forms]
    return {"language": get_language(), "rules": rules, "words": words} if words else None


def words_tag(messages: Sequence[Message]) -> SafeString:
    """Return the element that hands these texts over in the active language; nothing where they are said as they stand."""
    # A block of data, which no Content Security Policy forbids: browsers run scripts of their own types only.
    words = words_of(messages)
    if words is None:
        return SafeString("")
    return SafeString(f'<script type="application/json" data-agent-sse-words>{json_in_html(words)}</script>')
