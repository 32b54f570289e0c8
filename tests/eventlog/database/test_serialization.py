"""A large event is packed and unpacked a slice at a time, and nobody can tell."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse import encoding
from django_agent_sse.eventlog.database import serialization
from django_agent_sse.eventlog.database.serialization import pack, unpack
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


@pytest.mark.parametrize("cut", [1, 2, 3, 30, -1, -2, -3])
def test_what_is_damaged_is_a_value_error(cut: int) -> None:
    packed = pack([Event("\0" * SLICE, event="tick")])
    with pytest.raises(ValueError, match=r"Expecting|does not end|delimiter|char "):
        unpack(packed[:cut])
