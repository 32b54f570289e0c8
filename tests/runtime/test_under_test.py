"""Whether this process runs tests is said once, and can be taken back."""

from __future__ import annotations

import django_agent_sse.testing  # noqa: F401
from django_agent_sse.runtime.under_test import set_under_test, under_test


def test_it_can_be_undone_by_what_is_like_a_server() -> None:
    assert under_test(), "the module for tests says so"
    set_under_test(False)
    try:
        assert not under_test()
    finally:
        set_under_test()
    assert under_test()
