"""A large event is packed and unpacked a slice at a time, and nobody can tell."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse import encoding
from django_agent_sse.eventlog.database import serialization
from django_agent_sse.eventlog.database.serialization import TOGETHER, pack, unpack, unpack_together
from django_agent_sse.wire import Event

SLICE = 24
texts = st.text(alphabet=st.one_of(st.sampled_from('\\"\0\nu1é😀'), st.characters(exclude_categories=["Cs"])), max_size=200)
names = st.sampled_from([None, "", "tick", 'a"b\\'])


@pytest.fixture(scope="module", autouse=True)
def slices() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "SLICE", SLICE)
        patch.setattr(serialization, "SLICE", SLICE)
        yield


@given(texts, names, st.sampled_from([None, 0, 100]))
def test_what_is_packed_in_slices_is_the_same_json_and_comes_back(data: str, name: str | None, retry: int | None) -> None:
    event = Event(data, event=name, retry=retry)
    packed = pack([event])
    assert packed == json.dumps(json.loads(packed), ensure_ascii=False, separators=(",", ":"))
    assert unpack(packed) == [event]
    assert unpack(json.dumps(json.loads(packed), indent=1)) == [event], "also as somebody else would have written it"


@given(st.lists(st.tuples(texts, names), max_size=5))
def test_several_come_back_too(several: list[tuple[str, str | None]]) -> None:
    events = [Event(data, event=name) for data, name in several]
    assert unpack(pack(events)) == events


@pytest.mark.parametrize("data", ["\\" * 3 * SLICE, '"' * 3 * SLICE, "\0" * SLICE, "x" * 3 * SLICE])
@pytest.mark.parametrize("before", range(7))
def test_no_escape_is_cut_wherever_it_falls(data: str, before: int) -> None:
    event = Event("y" * before + data)
    assert unpack(pack([event])) == [event]


@pytest.mark.parametrize("retry", [None, 100])
@pytest.mark.parametrize("name", [None, "tick"])
@pytest.mark.parametrize("data", ["\0" * 3 * SLICE, "\x1b\\é😀" * SLICE, '"' * (SLICE + 1)])
def test_what_json_would_make_much_longer_says_that_it_is_base64(data: str, name: str | None, retry: int | None) -> None:
    event = Event(data, event=name, retry=retry)
    packed = pack([event])
    assert json.loads(packed) == [[base64.b64encode(data.encode()).decode(), name, retry, "base64"]]
    assert unpack(packed) == [event]
    plain = json.dumps([[data, name, retry]], ensure_ascii=False)
    assert unpack(plain) == [event], "as older versions have written it"
    assert len(packed.encode()) < len(plain.encode())


@given(st.text(alphabet=st.sampled_from('\0"\\\n\x1bé€😀xy'), min_size=SLICE + 1, max_size=400))
def test_no_large_event_takes_much_more_room_than_its_data(data: str) -> None:
    packed = pack([Event(data)])
    assert len(packed.encode()) <= serialization.MOST_ESCAPED * len(data.encode()) + len('[["",null,null,"base64"]]')
    assert unpack(packed) == [Event(data)]


def test_what_json_makes_a_little_longer_stays_readable() -> None:
    data = '{"a": "b", "c": [1, 2]}\n' * SLICE
    assert json.loads(pack([Event(data)])) == [data]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (["AAAA", None, None, "base32"], "'base32', not in 'base64'"),
        (["AAAA", None, None, ["x" * 200]], r"\['x+, not in 'base64'"),
        ([7, None, None, "base64"], "not in 'base64'"),
        (["AAA", None, None, "base64"], "padding"),
        (["A A=", None, None, "base64"], "base64|allowed"),
        (["/w==", None, None, "base64"], "utf-8"),
        (["w6k=" * SLICE, None, None, "base64"], "padding|data"),
        (["4pg=", None, None, "base64"], "unexpected end of data"),
        (["AAAA", None, None, "base64", 1], "not an event"),
    ],
)
def test_base64_that_is_damaged_is_a_value_error(item: list[object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        unpack(json.dumps([item]))


@pytest.mark.parametrize("cut", [1, 2, 3, 30, -1, -2, -3])
def test_what_is_damaged_is_a_value_error(cut: int) -> None:
    packed = pack([Event("\0" * SLICE, event="tick")])
    with pytest.raises(ValueError, match=r"Expecting|does not end|delimiter|char "):
        unpack(packed[:cut])


@given(st.lists(st.lists(st.tuples(texts, names, st.sampled_from([None, 0, 100])), max_size=4), max_size=6))
def test_texts_that_are_read_together_are_the_same_as_each_by_itself(rows: list[Any]) -> None:
    packed = [pack(Event(data, event=name, retry=retry) for data, name, retry in row) for row in rows]
    together = unpack_together(packed, [len(row) for row in rows])
    assert together == [unpack(text) for text in packed] or (together is None and len(rows) == 1)


@pytest.mark.parametrize(
    "damaged", ['["a"', '["a"],["b"]', '"a"', '{"a":1}', "[7]", '[["a", 7]]', '["\\ud800"]', '["a","b"]', ""]
)
def test_where_one_of_several_texts_is_damaged_each_is_left_to_be_read_by_itself(damaged: str) -> None:
    assert unpack_together(['["x"]', damaged, '["y"]'], [1, 1, 1]) is None


def test_texts_that_are_too_long_for_one_step_are_read_by_themselves() -> None:
    assert unpack_together([pack([Event("x" * SLICE)])], [1]) is None
    many = TOGETHER // 100
    assert unpack_together(['["x"]'] * many, [1] * many) == [[Event("x")]] * many
    assert unpack_together([f'["{"x" * 100}"]'] * many, [1] * many) is None
