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
    gettext_noop("All lines"),
    gettext_noop("Cancelled"),
    gettext_noop("Close"),
    gettext_noop("Completed"),
    gettext_noop("Connecting…"),
    ngettext("Copied {count} line", "Copied {count} lines"),
    gettext_noop("Copy"),
    gettext_noop("Critical"),
    gettext_noop("Debug"),
    gettext_noop("Download"),
    gettext_noop("Ended"),
    gettext_noop("Error"),
    gettext_noop("Errors"),
    gettext_noop("Errors and warnings"),
    gettext_noop("Failed"),
    gettext_noop("Fields"),
    gettext_noop("Fill the window"),
    gettext_noop("Fill the window (m)"),
    gettext_noop("Finished"),
    gettext_noop("Fold or unfold all groups"),
    gettext_noop("Fold or unfold all groups (z)"),
    gettext_noop("Follow the end"),
    gettext_noop("Follow the end (f)"),
    gettext_noop("Go to a line"),
    gettext_noop("Group"),
    gettext_noop("Group {name}"),
    gettext_noop("Info"),
    gettext_noop("Interrupted"),
    gettext_noop("Invalid pattern"),
    gettext_noop("Keys"),
    gettext_noop("Keys (?)"),
    gettext_noop("Leave search, marked lines or the full window"),
    gettext_noop("Line {number}"),
    gettext_noop("Lines 1 to {last} are no longer kept."),
    gettext_noop("Lines around each match"),
    gettext_noop("Lines {first} to {last} are no longer kept."),
    gettext_noop("Live"),
    gettext_noop("Log"),
    gettext_noop("Lost"),
    gettext_noop("Match case"),
    gettext_noop("Next error, previous error"),
    gettext_noop("Next line, previous line: Enter links it, Tab goes to its addresses"),
    gettext_noop("Next match (n)"),
    gettext_noop("Next match, previous match"),
    gettext_noop("No match"),
    gettext_noop("Not copied: some lines cannot be read now."),
    gettext_noop("Not copied: the browser did not allow it."),
    gettext_noop("Nothing has been printed yet."),
    gettext_noop("Nothing was printed."),
    gettext_noop("Notice"),
    gettext_noop("Notify me when it is done"),
    gettext_noop("Number of the line"),
    gettext_noop("Only matching lines"),
    gettext_noop("Passed"),
    gettext_noop("Patterns cannot be tried in this page"),
    gettext_noop("Paused in the background"),
    gettext_noop("Pending"),
    gettext_noop("Previous match (N)"),
    gettext_noop("Progress"),
    gettext_noop("Queued"),
    gettext_noop("Raw text"),
    gettext_noop("Reconnecting in {seconds} s…"),
    gettext_noop("Reconnecting…"),
    gettext_noop("Regular expression"),
    gettext_noop("Running"),
    gettext_noop("Search"),
    gettext_noop("Search the log"),
    gettext_noop("Searching…"),
    gettext_noop("Show more"),
    gettext_noop("Sign in again"),
    gettext_noop("Signed out."),
    gettext_noop("Single keys work while nothing else has the focus"),
    gettext_noop("Some lines are missing here: they are no longer kept."),
    gettext_noop("Started"),
    gettext_noop("Stopped"),
    gettext_noop("Succeeded"),
    gettext_noop("Success"),
    gettext_noop("The log starts again here. Earlier lines are gone."),
    gettext_noop("The pattern takes too long"),
    gettext_noop("The search failed"),
    gettext_noop("The server could not resume the log. It is repeated from here on."),
    gettext_noop("The server has a problem ({status})."),
    gettext_noop("The server refused ({status}). Reload to try again."),
    gettext_noop("The server sent a page instead of a log."),
    gettext_noop("There are more."),
    gettext_noop("There is no line {number}: the log has {count}."),
    gettext_noop("There is no such log."),
    gettext_noop("These keys"),
    gettext_noop("This log is gone."),
    gettext_noop("This page’s stream was closed. Reload the page to open another."),
    gettext_noop("Timeout"),
    gettext_noop("Times: clock (t)"),
    gettext_noop("Times: elapsed (t)"),
    gettext_noop("Times: off (t)"),
    gettext_noop("Times: off, elapsed, clock"),
    gettext_noop("Too many requests."),
    gettext_noop("Top, bottom"),
    gettext_noop("Unknown"),
    gettext_noop("View"),
    gettext_noop("Waiting"),
    gettext_noop("Warning"),
    gettext_noop("Which lines"),
    gettext_noop("Wrap long lines"),
    gettext_noop("Wrap long lines (w)"),
    gettext_noop("You may not see this log."),
    gettext_noop("exit code {code}"),
    gettext_noop("running"),
    gettext_noop("signal {number}"),
    gettext_noop("{at} of {total}"),
    ngettext("{count} error", "{count} errors"),
    ngettext("{count} error line", "{count} error lines"),
    ngettext(
        "{count} more line is not shown here: the raw text has it.",
        "{count} more lines are not shown here: the raw text has them.",
    ),
    ngettext("{count} line", "{count} lines"),
    ngettext("{count} line is missing here, no longer kept.", "{count} lines are missing here, no longer kept."),
    ngettext("{count} line is not printed.", "{count} lines are not printed."),
    gettext_noop("{count} more characters"),
    gettext_noop("{count} more characters, written over"),
    ngettext("{count} new line", "{count} new lines"),
    gettext_noop("{count} on stderr"),
    ngettext("{count} warning", "{count} warnings"),
    gettext_noop("{hours} h {minutes} min"),
    gettext_noop("{minutes} min {seconds} s"),
    gettext_noop("{name} failed"),
    gettext_noop("{name} finished"),
    gettext_noop("{name} finished after {time}"),
    gettext_noop("{seconds} s"),
)
"""What the log viewer says."""


# fmt: off
STATUSES: Final = frozenset([
    "cancelled", "completed", "ended", "error", "failed", "finished", "interrupted", "lost",
    "passed", "pending", "queued", "running", "started", "stopped", "succeeded", "success",
    "timeout", "unknown", "waiting",
])
# fmt: on
"""Statuses that are said in the language of the reader, as ``words.js`` has them."""


def status_text(status: str) -> str:
    """Return a status as a reader is told it: one that is not known as it is."""
    text = status[:1].upper() + status[1:]
    return gettext(text.capitalize()) if status.lower() in STATUSES else text


def errors_text() -> str:
    """Return that some lines are errors, in words."""
    return gettext("Errors")


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
