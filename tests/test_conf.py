"""``AGENT_SSE``: merged over defaults, read when used, refused with the hint; and JSON as it is written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections import UserDict
from typing import Any

import attrs
import pydantic
import pydantic.v1 as pydantic_1
import pytest
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_agent_sse import Context, Router, Stream, conf, encoding
from django_agent_sse.exceptions import ConfigurationError, InvalidEvent
from tests.ids import plain
from tests.serving import ask, served

DEFAULTS = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {}},
    "CACHE": "default",
    "HEARTBEAT": 15,
    "RETRY": 3000,
    "MAX_DURATION": None,
    "ON_DISCONNECT": "cancel",
    "BUFFER_BYTES": 65536,
    "BUFFER_EVENTS": 256,
    "SEND_TIMEOUT": 30,
    "COMMIT_AFTER": 0.25,
    "CLOSE_GRACE": 5,
    "ORIGINS": (),
    "ALLOW_CREDENTIALS": False,
    "COMPRESS": None,
    "THREADS": 16,
    "REQUEST_THREADS": 64,
    "PINNED_THREADS": 64,
    "ON_CONNECTION": None,
    "CAN_FOLLOW": None,
    "RECHECK": 60,
    "RECHECK_ON_SIGNALS": True,
    "SIGNED_MAX_AGE": 60,
    "PROXIES": None,
    "LIMITS": {},
    "DRAIN_SECONDS": 4,
    "RECONNECTS": 200,
    "MONITOR": {"REPORTS": True, "ADDRESS": "truncated", "USER_AGENT": "truncated"},
}


def test_every_key_has_a_default(settings: Any) -> None:
    del settings.AGENT_SSE
    conf.current.cache_clear()  # a deleted setting is no changed one to Django
    assert dict(conf.current()) == DEFAULTS
    conf.current.cache_clear()


def test_given_values_are_merged_over_the_defaults() -> None:
    with override_settings(AGENT_SSE={"RETRY": 5, "MAX_DURATION": 600}):
        assert dict(conf.current()) == {**DEFAULTS, "RETRY": 5, "MAX_DURATION": 600}
        assert conf.setting("RETRY") == 5
        assert conf.setting("HEARTBEAT") == 15


def test_any_mapping_will_do() -> None:
    with override_settings(AGENT_SSE=UserDict(RETRY=5)):
        assert conf.setting("RETRY") == 5


def test_a_setting_that_is_overridden_comes_back() -> None:
    with override_settings(AGENT_SSE={"RETRY": 5}):
        assert conf.setting("RETRY") == 5
    assert conf.setting("RETRY") == 3000


def test_the_merged_settings_are_one_object_until_they_change() -> None:
    """What a route compares to know whether its options are still those in force."""
    first = conf.current()
    with override_settings(LANGUAGE_CODE="de"):
        assert conf.current() is first
    with override_settings(AGENT_SSE={}):
        assert conf.current() is not first


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"HEARTBEET": 1}, r"AGENT_SSE\['HEARTBEET'\] does not exist; did you mean 'HEARTBEAT'\?"),
        ({"heartbeat": 1}, r"AGENT_SSE\['heartbeat'\] does not exist.*HEARTBEAT"),
        ({"XYZZY": 1}, r"does not exist; there are EVENT_LOG, HEARTBEAT, .*THREADS"),
        ({1: 1}, r"AGENT_SSE\[1\] does not exist"),
        ({"RETRIES": 1, "THREAD": 1}, r"RETRIES.*RETRY.*THREAD.*THREADS"),
        (["RETRY"], r"AGENT_SSE must be a dict, not list"),
        (None, r"AGENT_SSE must be a dict, not NoneType"),
        ({"THREADS": "4"}, r"AGENT_SSE\['THREADS'\] must be a whole number from 1 to \d+, not '4'"),
        ({"HEARTBEAT": "15"}, r"AGENT_SSE\['HEARTBEAT'\] must be a number of seconds or None, not '15'"),
        ({"MAX_DURATION": -1}, r"AGENT_SSE\['MAX_DURATION'\] must be a number of seconds or None, not -1"),
        ({"SEND_TIMEOUT": [30]}, r"AGENT_SSE\['SEND_TIMEOUT'\] must be"),
        ({"COMMIT_AFTER": None}, r"AGENT_SSE\['COMMIT_AFTER'\] must be a number of seconds, not None"),
        ({"CLOSE_GRACE": True}, r"AGENT_SSE\['CLOSE_GRACE'\] must be"),
        ({"RETRY": "3000"}, r"AGENT_SSE\['RETRY'\] must be a whole number from 0 to \d+ or None, not '3000'"),
        ({"BUFFER_BYTES": 0}, r"AGENT_SSE\['BUFFER_BYTES'\] must be a whole number from 1"),
        ({"BUFFER_EVENTS": 1.5, "THREADS": 0}, r"BUFFER_EVENTS.*THREADS"),
        ({"ON_DISCONNECT": "stop"}, r"AGENT_SSE\['ON_DISCONNECT'\] must be 'cancel' or 'continue', not 'stop'"),
    ],
    ids=repr,
)
def test_what_cannot_be_meant_is_refused_with_a_hint(given: Any, hint: str) -> None:
    with override_settings(AGENT_SSE=given), pytest.raises(ConfigurationError, match=hint):
        conf.setting("RETRY")


@pytest.mark.parametrize("given", [{"THREADS": "4"}, {"HEARTBEAT": "15"}, {"CACHE": ["default"]}, {"CACHE": None}], ids=repr)
async def test_a_route_imports_with_settings_that_are_wrong_and_its_requests_say_what_is(
    given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(c: Context, stream: Stream) -> None: ...

    with override_settings(AGENT_SSE=given):
        router = Router()
        router.sse("", handler)
        with served(router):
            assert (await ask("/")).status == 500
    error = next(record.exc_info[1] for record in caplog.records if record.exc_info)
    assert isinstance(error, ConfigurationError)
    assert f"AGENT_SSE['{next(iter(given))}'] must be" in str(error)


async def test_changed_settings_take_effect_on_routes_that_exist() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x")

    router = Router()
    router.sse("project/", handler)
    router.sse("own/", handler, retry=1)
    with served(router):
        for retry in (10, 20):
            with override_settings(AGENT_SSE={"RETRY": retry}):
                assert (await ask("/project/")).body == b"retry: %d\ndata: x\n\n" % retry
                assert (await ask("/own/")).body == b"retry: 1\ndata: x\n\n"


async def test_the_project_cache_is_read_when_it_is_used() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write((await c.kv.get("ns", "key")).exists)
        await c.kv.set("ns", "key", 1)

    router = Router()
    router.sse("", handler)
    caches = {
        alias: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": alias}
        for alias in ("default", "one", "two")
    }
    with served(router, CACHES=caches):
        seen = []
        for alias in ("one", "two", "one"):
            with override_settings(AGENT_SSE={"CACHE": alias}):
                seen += (await ask("/")).data
    assert seen == ["false", "false", "true"]


# JSON


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None, 1.5]}, '{"a":1,"b":[true,null,1.5]}'),
        ("zażółć \u2028", '"zażółć \u2028"'),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), '"2026-01-02T03:04:05Z"'),
        (dt.timedelta(seconds=90), '"P0DT00H01M30S"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (gettext_lazy("Yes"), '"Yes"'),
        ((1, 2), "[1,2]"),
    ],
)
def test_values_are_written_as_compact_json_in_utf_8(value: object, text: str) -> None:
    assert encoding.encode_json(value) == text


class Colour(enum.Enum):
    RED = "red"


class Level(enum.StrEnum):
    HIGH = "high"


@dataclasses.dataclass
class Point:
    x: int
    at: dt.date


@dataclasses.dataclass(frozen=True, slots=True)
class Path:
    points: list[Point]
    colour: Colour
    by_name: dict[str, Point]


@attrs.define
class Step:
    name: str
    path: Path | None = None


class Author(pydantic.BaseModel):
    name: str
    born: dt.date
    tags: set[str] = set()


class Book(pydantic.BaseModel):
    authors: list[Author]
    price: decimal.Decimal


class OldAuthor(pydantic_1.BaseModel):
    name: str
    born: dt.date
    tags: set[str] = set()


DAY = dt.date(2026, 1, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1, DAY), '{"x":1,"at":"2026-01-02"}'),
        (
            Path([Point(1, DAY)], Colour.RED, {"a": Point(2, DAY)}),
            '{"points":[{"x":1,"at":"2026-01-02"}],"colour":"red","by_name":{"a":{"x":2,"at":"2026-01-02"}}}',
        ),
        (Author(name="Ann", born=DAY), '{"name":"Ann","born":"2026-01-02","tags":[]}'),
        (
            [{"book": Book(authors=[Author(name="Ann", born=DAY, tags={"x"})], price=decimal.Decimal("1.10"))}],
            '[{"book":{"authors":[{"name":"Ann","born":"2026-01-02","tags":["x"]}],"price":"1.10"}}]',
        ),
        (Step("a", Path([], Colour.RED, {})), '{"name":"a","path":{"points":[],"colour":"red","by_name":{}}}'),
        (pydantic.RootModel[list[int]]([1, 2]), "[1,2]"),
        (OldAuthor(name="Ânn", born=DAY), '{"name":"Ânn","born":"2026-01-02","tags":[]}'),
        (
            [{"author": OldAuthor(name="Ann", born=DAY, tags={"x"})}],
            '[{"author":{"name":"Ann","born":"2026-01-02","tags":["x"]}}]',
        ),
        (Colour.RED, '"red"'),
        ([Level.HIGH, {"colour": Colour.RED}], '["high",{"colour":"red"}]'),
    ],
)
def test_objects_that_say_what_they_hold_are_json(value: object, text: str) -> None:
    assert encoding.encode_json(value) == encoding.text_of(value) == text


def test_an_enumeration_of_texts_is_its_text() -> None:
    assert encoding.event_of(Level.HIGH).data == "high"
    assert type(encoding.event_of(Level.HIGH).data) is str


def test_a_dataclass_that_holds_itself_or_what_has_no_form_is_refused() -> None:
    point = Point(1, DAY)
    for inside in (point, object(), Point):
        point.x = inside  # type: ignore[assignment]
        with pytest.raises(InvalidEvent, match="data of the type Point cannot be written as JSON"):
            encoding.encode_json(point)


async def test_models_are_written_and_piped() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(Author(name="Ann", born=DAY), event="author")
        await stream.pipe([Point(1, DAY), Author(name="Bob", born=DAY)])

    router = Router()
    router.sse("", handler)
    with served(router):
        assert (await ask("/")).data == [
            '{"name":"Ann","born":"2026-01-02","tags":[]}',
            '{"x":1,"at":"2026-01-02"}',
            '{"name":"Bob","born":"2026-01-02","tags":[]}',
        ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), {(1, 2): 3}], ids=plain)
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(InvalidEvent, match="cannot be written as JSON"):
        encoding.encode_json(value)


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidEvent, match="cannot be written as JSON"):
        encoding.encode_json(loop)
