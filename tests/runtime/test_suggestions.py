"""Suggestions for misspelled names."""

from __future__ import annotations

import pytest

from django_agent_sse.runtime.suggestions import nearest, suggest

KNOWN = ("heartbeat", "retry", "slim")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("hartbeat", "did you mean 'heartbeat'?"), ("slimm", "did you mean 'slim'?"), (7, "there are heartbeat, retry, slim")],
)
def test_an_unknown_name_gets_a_suggestion(word: object, hint: str) -> None:
    assert suggest(word, iter(KNOWN)) == hint


def test_nothing_is_near_to_a_strange_name() -> None:
    assert nearest("zzz", KNOWN) is None
    assert nearest("retri", KNOWN) == "retry"
