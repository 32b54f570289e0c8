"""``StreamOptions``: the project's values, a route's over them, and none that could fail later."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest
from django.test import override_settings

from django_agent_sse import Router, SSEView, conf
from django_agent_sse.exceptions import RouteError
from django_agent_sse.streams.options import NAMES, PROJECT_WIDE, StreamKeywords, StreamOptions, check_names
from django_agent_sse.views import UNSET

OTHERS = {
    *("THREADS", "REQUEST_THREADS", "PINNED_THREADS"),
    *("RECHECK_ON_SIGNALS", "SIGNED_MAX_AGE", "PROXIES", "DRAIN_SECONDS", "RECONNECTS"),
}
"""Settings that are no option of a stream."""


def test_the_defaults_are_the_projects() -> None:
    options = StreamOptions.of({})
    assert {name: getattr(options, name) for name in NAMES} == {
        "heartbeat": 15,
        "retry": 3000,
        "max_duration": None,
        "on_disconnect": "cancel",
        "buffer_bytes": 65536,
        "buffer_events": 256,
        "send_timeout": 30,
        "commit_after": 0.25,
        "close_grace": 5,
        "recheck": 60,
        "cache": "default",
        "origins": (),
        "allow_credentials": False,
        "compress": None,
        "control_events": None,
        "final_on_error": False,
        "slim": False,
        "pinned": False,
        "signed": False,
        "max_streams": None,
    }


def test_a_route_overrides_the_project() -> None:
    with override_settings(AGENT_SSE={"HEARTBEAT": 5, "RETRY": None}):
        options = StreamOptions.of({"heartbeat": None, "close_grace": 0})
        assert (options.heartbeat, options.retry, options.close_grace) == (None, None, 0)
        assert StreamOptions.of({}).heartbeat == 5
    assert StreamOptions.of({}).heartbeat == 15


def test_settings_views_and_keyword_arguments_have_the_same_options_of_the_same_types() -> None:
    declared = get_type_hints(StreamOptions, include_extras=True)
    assert get_type_hints(StreamKeywords, include_extras=True) == declared
    assert StreamKeywords.__optional_keys__ == {*declared}
    of_a_view = get_type_hints(SSEView, include_extras=True)
    assert {name: of_a_view[name] for name in declared} == declared
    assert {name for name in of_a_view if getattr(SSEView, name, None) is UNSET} == {*declared}
    for routing in (Router.__init__, Router.sse):
        assert inspect.signature(routing).parameters["options"].annotation == "Unpack[StreamKeywords]"


def test_the_settings_are_made_of_the_options() -> None:
    options = {field.name: field.default for field in fields(StreamOptions)}
    assert MISSING not in options.values()
    assert {name: conf.DEFAULTS[name.upper()] for name in PROJECT_WIDE} == {name: options[name] for name in PROJECT_WIDE}
    assert {name.upper() for name in PROJECT_WIDE} - {"CACHE"} == {*conf.RULES} - OTHERS
    for name, rule in conf.RULES.items():
        assert rule.holds(conf.DEFAULTS[name]), name


def test_only_the_routes_own_options_are_not_in_the_settings() -> None:
    assert set(NAMES) - set(PROJECT_WIDE) == {"control_events", "final_on_error", "slim", "pinned", "signed", "max_streams"}


def wrong() -> Iterator[tuple[str, Any]]:
    for name in ("heartbeat", "max_duration", "send_timeout", "commit_after", "close_grace", "recheck"):
        yield from ((name, value) for value in (-1, "15", True, math.nan, math.inf, -math.inf, [1]))
    for name in ("buffer_bytes", "buffer_events"):
        yield from ((name, value) for value in (0, -1, None, "256", True, 1.5, math.inf))
    yield from (("retry", value) for value in (-1, 1.5, "3000", True, 2**31, math.inf))
    yield from ((name, None) for name in ("commit_after", "close_grace"))
    yield from (("on_disconnect", value) for value in ("stop", None, "CANCEL"))


@pytest.mark.parametrize(("name", "value"), [*wrong()], ids=str)
def test_a_value_that_an_option_cannot_take_is_refused_and_the_option_named(name: str, value: Any) -> None:
    with pytest.raises(RouteError, match=name):
        StreamOptions.of({name: value})


@pytest.mark.parametrize("name", ["heartbeat", "retry", "max_duration", "send_timeout"])
def test_none_turns_off_what_can_be_off(name: str) -> None:
    assert getattr(StreamOptions.of({name: None}), name) is None


def test_an_option_that_does_not_exist_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(RouteError, match=r"no option 'heartbeats'; did you mean 'heartbeat'\?"):
        check_names({"heartbeats": 1})
    with pytest.raises(RouteError, match="there are heartbeat, retry"):
        check_names({"zzz": 1})


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ({}, 15),
        ({"max_duration": 2}, 2),
        ({"heartbeat": 0}, 15),
        ({"heartbeat": None, "send_timeout": None}, None),
        ({"heartbeat": None, "send_timeout": None, "max_duration": 9}, 9),
    ],
)
def test_the_clock_looks_as_often_as_the_shortest_of_them(given: dict[str, Any], interval: float | None) -> None:
    assert StreamOptions.of(given).visit_interval == interval


def test_options_cannot_change_afterwards() -> None:
    with pytest.raises(AttributeError):
        StreamOptions.of({}).heartbeat = 1  # type: ignore[misc]
