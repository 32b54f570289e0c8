"""Text that somebody else wrote is shown, and does nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.runtime.safe_text import printable

UNSEEN = ["\u200b", "\u200e", "\u202a", "\u202e", "\u2028", "\u2029", "\u2066", "\u2069", "\ufeff", "\xad", "\u061c"]


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_a_control_character_becomes_an_escape(code: int) -> None:
    assert printable(f"a{chr(code)}b") == f"a\\x{code:02x}b"


@pytest.mark.parametrize("character", UNSEEN)
def test_a_character_that_is_not_seen_becomes_an_escape(character: str) -> None:
    assert printable(character) == character.encode("unicode_escape").decode()


def test_a_lone_surrogate_becomes_an_escape() -> None:
    assert printable("\udc80") == "\\udc80"
    assert printable("\U000e0041") == "\\U000e0041"


@pytest.mark.parametrize("text", ["", "plain", "Köln – 東京 🚀", "a\\b"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_too_long_is_cut_with_an_ellipsis() -> None:
    assert printable("x" * 200) == "x" * 200
    assert printable("x" * 201) == "x" * 199 + "…"
    assert printable("abcdef", 4) == "abc…"
    assert printable("\x1b\x1b", 4) == "\\x1…"
    assert printable("abc", 0) == ""


def test_anything_that_has_a_text_can_be_given() -> None:
    assert printable(ValueError("no\nway")) == "no\\x0away"
    assert printable(None) == "None"


@given(st.text(st.characters(codec=None)), st.integers(1, 40))
def test_nothing_unsafe_is_left_and_nothing_is_longer_than_the_limit(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in shown)
    assert not set(UNSEEN) & set(shown)
    shown.encode()
