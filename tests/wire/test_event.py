"""An Event that exists is valid; everything else is refused with a message that says what to do."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle

import pytest

from django_agent_sse.exceptions import AgentSSEError, InvalidEvent
from django_agent_sse.wire import MAX_RETRY, Event, comment, frame


class Kind(str, enum.Enum):  # noqa: UP042 -- not StrEnum on purpose: format() of this one gives "Kind.TICK"
    TICK = "tick"


class Priority(enum.IntEnum):
    LOW = 3000


def both(data, **fields):
    """Make the Event, and frame it without one: the two doors must refuse alike."""
    return [lambda: Event(data, **fields), lambda: frame(data, **fields)]


def refusals(data="x", **fields):
    messages = set()
    for make in both(data, **fields):
        with pytest.raises(InvalidEvent) as caught:
            make()
        messages.add(str(caught.value))
    assert len(messages) == 1, messages
    return messages.pop()


def test_an_event_needs_only_data():
    event = Event("hello")
    assert (event.data, event.event, event.id, event.retry) == ("hello", None, None, None)


def test_all_but_data_is_given_by_name():
    with pytest.raises(TypeError):
        Event("hello", "tick")  # type: ignore[misc]


def test_an_event_cannot_be_changed_and_has_no_room_for_more():
    event = Event("hello", event="tick")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = "other"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


def test_events_are_values():
    event = Event("hello", event="tick", id="7", retry=0)
    assert event == Event("hello", event="tick", id="7", retry=0)
    assert event != Event("hello", event="tick", id="8", retry=0)
    assert len({event, copy.copy(event), pickle.loads(pickle.dumps(event))}) == 1
    assert repr(event) == "Event(data='hello', event='tick', id='7', retry=0)"


def test_a_replaced_field_is_checked_again():
    event = Event("hello", event="tick")
    assert dataclasses.replace(event, id="1") == Event("hello", event="tick", id="1")
    with pytest.raises(InvalidEvent):
        dataclasses.replace(event, id="1\n")


@pytest.mark.parametrize("text", ["", " ", "ünïcode", "\ufeff", "a\u2028b\x85c\x0bd\x0ce", "\t", "\x7f", "😀", ":", "data: x"])
def test_every_one_line_text_is_a_name_and_an_id(text):
    event = Event("x", event=text, id=text)
    assert (event.event, event.id) == (text, text)


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "a\rb", "a\nb", "a\n", "\na", "x\r\ndata: injected"])
def test_h15_to_h18_a_line_end_in_event_or_id_is_refused(field, bad):
    message = refusals(**{field: bad})
    places = [bad.index(end) + 1 for end in "\r\n" if end in bad]
    assert message.startswith(tuple(f"{field} holds a {what} at character" for what in ("carriage return", "line feed")))
    assert any(f" at character {place} of {len(bad)}, " in message for place in places)
    assert "injected" not in message
    assert "one line without CR, LF or NUL" in message


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("bad", ["\0", "a\0b", "\0\x7f"])
def test_h15_to_h18_a_nul_in_event_or_id_is_refused(field, bad):
    assert "holds a NUL" in refusals(**{field: bad})


@pytest.mark.parametrize("field", ["event", "id"])
def test_a_message_says_where_it_is_wrong_and_shows_nothing_of_the_value(field):
    message = refusals(**{field: "secret" * 10_000 + "\n"})
    assert message.startswith(f"{field} holds a line feed at character 60001 of 60001, which")
    assert "secret" not in message


@pytest.mark.parametrize("field", ["data", "event", "id"])
@pytest.mark.parametrize("bad", ["\ud800", "ok\udfff", "é\udc80 from surrogateescape"])
def test_a_lone_surrogate_is_refused(field, bad):
    message = refusals(**({"data": bad} if field == "data" else {field: bad}))
    assert message.startswith(f"{field} holds a lone surrogate (U+D")
    assert 'errors="replace"' in message
    message.encode()


def test_a_surrogate_in_data_is_named_by_its_place_and_the_data_is_not_shown():
    message = refusals("secret\nsecret\ud800")
    assert "U+D800 at index 13 of 14" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("bad", "hint"),
    [(None, 'data="" is an event'), (42, "json.dumps"), ({"a": 1}, "json.dumps"), (b"x", "Decode"), (bytearray(b"x"), "Decode")],
)
def test_data_must_be_text(bad, hint):
    message = refusals(bad)
    assert message.startswith(f"data must be a str, not {type(bad).__name__}. ")
    assert hint in message


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize(("bad", "hint"), [(7, "str()"), (b"7", "Decode"), (["7"], "str()"), (True, "str()")])
def test_event_and_id_must_be_text(field, bad, hint):
    message = refusals(**{field: bad})
    assert message.startswith(f"{field} must be a str, not {type(bad).__name__}. ")
    assert hint in message


@pytest.mark.parametrize("good", [0, 1, 3000, MAX_RETRY])
def test_retry_is_a_whole_number_of_milliseconds(good):
    assert Event("x", retry=good).retry == good


@pytest.mark.parametrize("bad", [True, False, 3000.0, float("nan"), "3000", b"1", [1]])
def test_a_retry_of_another_type_is_refused(bad):
    assert refusals(retry=bad) == f"retry must be an int, in milliseconds, not {type(bad).__name__}."


@pytest.mark.parametrize(
    ("bad", "fault"), [(-1, "negative"), (MAX_RETRY + 1, "too long"), pytest.param(10**5000, "too long", id="5001 digits")]
)
def test_a_retry_out_of_range_is_refused(bad, fault):
    message = refusals(retry=bad)
    assert fault in message
    assert str(MAX_RETRY) in message


def test_of_a_str_or_int_subclass_the_value_counts():
    event = Event(Kind.TICK, event=Kind.TICK, id=Kind.TICK, retry=Priority.LOW)
    assert [type(value) for value in (event.data, event.event, event.id, event.retry)] == [str, str, str, int]
    assert frame(Kind.TICK, Kind.TICK, Kind.TICK, Priority.LOW) == b"event: tick\nretry: 3000\ndata: tick\nid: tick\n\n"
    assert comment(Kind.TICK) == b": tick\n"


def test_a_refusal_is_one_of_ours_and_a_value_error():
    assert issubclass(InvalidEvent, AgentSSEError)
    assert issubclass(InvalidEvent, ValueError)
