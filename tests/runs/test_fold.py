"""Late readers get consecutive deltas of one part as one event: the text is the same at every cut, and little else is left."""

from __future__ import annotations

import json
import time
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_agent_sse import Event
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES
from django_agent_sse.eventlog.records import Record
from django_agent_sse.runs import fold as folding
from django_agent_sse.runs.wire import Fold
from django_agent_sse.topics.reading import Ahead
from django_agent_sse.wire import encode

from .samples import SAMPLES, Sample, added_up, compact, loose, numbered

DELTAS = 20_000


def half(text: str) -> list[str]:
    """Text cut after each unit of UTF-16, as clients of JavaScript cut it."""
    units = text.encode("utf-16-le", "surrogatepass")
    return [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]


texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\{}:,\u2028\x85\x00\n😀é'), max_size=8)
kinds = st.sampled_from(["text", "reasoning", "tool"])
scripts = st.lists(st.tuples(kinds, st.lists(texts, max_size=8)), max_size=4)


def fold_of(sample: Sample) -> Fold:
    assert sample.wire.fold is not None
    return sample.wire.fold


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(deadline=None, max_examples=60)
@given(script=scripts, data=st.data(), dump=st.sampled_from([compact, loose]))
def test_a_folded_replay_and_the_rest_say_the_same_at_every_cut(name: str, script: Any, data: st.DataObject, dump: Any) -> None:
    sample = SAMPLES[name]
    fold, events = fold_of(sample), numbered(sample.events(script, dump))
    cut = data.draw(st.integers(0, len(events)))
    late, live = [*fold(events[:cut])], events[cut:]
    assert added_up(sample, [*late, *live]) == added_up(sample, events)
    assert sample.wire.text([*late, *live]) == sample.wire.text(events)
    assert [event.id for event in late][-1:] == [event.id for event in events[:cut]][-1:], "whoever goes on misses nothing"
    ids = [event.id for event in events]
    assert [ids.index(event.id) for event in late] == sorted({ids.index(event.id) for event in late})


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(deadline=None, max_examples=60)
@given(script=scripts, data=st.data())
def test_page_by_page_is_the_same_as_at_once(name: str, script: Any, data: st.DataObject) -> None:
    sample = SAMPLES[name]
    fold, events = fold_of(sample), numbered(sample.events(script))
    size = data.draw(st.integers(1, 5))
    held: list[Event] = []
    found: list[Event] = []
    for at in range(0, len(events), size):
        *ready, last = fold([*held, *events[at : at + size]])
        found += ready
        held = [last]
    assert [*found, *held] == [*fold(events)]


def ahead(events: list[Event], size: int) -> Ahead:
    """As a log gives them, page by page."""
    pages = [[Record(0, event, 0.0) for event in events[at : at + size]] for at in range(0, len(events), size)]
    return Ahead(pages, attrgetter("event"))


between = st.sampled_from(["", "{", "a\n{delta}", "{delta}\nb", "{delta}\n{delta}", "retry", "name", "space"])
"""What stands among the deltas and is none, or none of the same kind: by itself, or with one in a line of its own."""


def disturbed(events: list[Event], what: list[tuple[int, str]]) -> list[Event]:
    events = [*events]
    for at, kind in what:
        if events:
            at %= len(events)
            event = events[at]
            if kind == "retry":
                events[at] = Event(event.data, event=event.event, retry=5)
            elif kind == "name":
                events[at] = Event(event.data, event="other")
            elif kind == "space":
                events[at] = Event(event.data.replace(":", ": \n"), event=event.event)
            else:
                events.insert(at, Event(kind.replace("{delta}", event.data), event=event.event))
    return events


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(deadline=None, max_examples=100)
@given(
    script=st.lists(st.tuples(kinds, st.lists(texts, max_size=30)), max_size=3),
    size=st.integers(1, 40),
    dump=st.sampled_from([compact, loose]),
    what=st.lists(st.tuples(st.integers(0, 99), between), max_size=4),
)
def test_many_joined_in_one_step_are_the_same_as_each_by_itself(name: str, script: Any, size: int, dump: Any, what: Any) -> None:
    sample = SAMPLES[name]
    events = numbered(disturbed(sample.events(script, dump), what))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folding, "WORTH_A_PATTERN", 2)
        assert [*fold_of(sample)(ahead(events, size))] == [*fold_of(sample)(events)]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_what_is_joined_in_steps_is_bounded_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FOLD_CHARACTERS", 2000)
    sample = SAMPLES[name]
    events = sample.events([("text", ["0123456789"] * 3000)])
    folded = [*fold_of(sample)(ahead(events, 1000))]
    joined = [event for event in folded if event not in events]
    assert max(len(event.data) for event in joined) < 2500
    assert len(folded) < len(events) / 50
    assert added_up(sample, folded) == added_up(sample, events)


def test_deltas_and_others_in_turn_cost_no_look_at_all_that_comes_next() -> None:
    """A delta that only the slow way recognises, after each that the fast way does."""
    fold = fold_of(SAMPLES["ag_ui"])
    data = '{"type":"TEXT_MESSAGE_CONTENT","timestamp":%s1,"messageId":"m","delta":"a"}'
    deltas = [Event(data % ("" if at < 100 or at % 2 else " ")) for at in range(DELTAS)]
    looked = 0

    class Counted(Ahead):
        def ahead(self, name: str | None, most: int) -> list[str]:
            nonlocal looked
            looked += most
            return super().ahead(name, most)

    folded = [*fold(Counted([[Record(0, event, 0.0) for event in deltas]], attrgetter("event")))]
    assert len(folded) == 1
    assert added_up(SAMPLES["ag_ui"], folded) == added_up(SAMPLES["ag_ui"], deltas)
    assert 100 < looked <= 2 * DELTAS


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from('a"😀é𝄞'), min_size=1, max_size=6))
def test_characters_that_were_cut_in_two_are_whole_again(name: str, text: str) -> None:
    sample = SAMPLES[name]
    events = sample.events([("text", half(text))], loose)
    folded = [*fold_of(sample)(events)]
    assert added_up(sample, folded) == added_up(sample, events)
    assert sample.wire.text(folded).endswith(text)
    assert all(encode(event) for event in folded)


def test_each_part_is_one_event(sample: Sample) -> None:
    script = [("reasoning", ["a", "b", "c"]), ("tool", ['{"q"', ":1}"]), ("text", ["x", "y", "z"])]
    events = numbered(sample.events(script))
    folded = [*fold_of(sample)(events)]
    assert len(events) - len(folded) == 2 + 1 + 2
    whole = [found for event in folded if event.data != "[DONE]" and (found := sample.delta(json.loads(event.data)))]
    assert [text for _, text in whole if text] == ["abc", '{"q":1}', "xyz"]


def test_deltas_of_parts_that_take_turns_stay_in_their_order() -> None:
    events = [Event(compact({"type": "text-delta", "id": str(at % 2), "delta": str(at)})) for at in range(6)]
    assert [*fold_of(SAMPLES["ai_sdk"])(events)] == events


AI_DELTA = {"type": "text-delta", "id": "1", "delta": "a"}


@pytest.mark.parametrize(
    ("wire", "messages"),
    [
        (AI_SDK, [{"type": "data-x", "id": "1", "delta": "a"}] * 2),
        (AI_SDK, [{"type": "data-x", "data": AI_DELTA}] * 2),
        (AI_SDK, [AI_DELTA, {**AI_DELTA, "id": "2"}]),
        (AI_SDK, [AI_DELTA, {**AI_DELTA, "type": "reasoning-delta"}]),
        (AI_SDK, [AI_DELTA, {**AI_DELTA, "providerMetadata": {"a": {"delta": "b"}}}]),
        (AI_SDK, [{**AI_DELTA, "providerMetadata": {"a": {"delta": text}}} for text in "ab"]),
        (AI_SDK, [{**AI_DELTA, "delta": number} for number in (1, 2)]),
        (AI_SDK, [{**AI_DELTA, "inputTextDelta": text} for text in "ab"]),
        (AG_UI, [{"type": "CUSTOM", "name": "x", "value": {"delta": "a"}, "timestamp": at} for at in (1, 2)]),
        (AG_UI, [{"type": "STATE_DELTA", "delta": [{"op": "add", "delta": "a"}]}] * 2),
        (
            AG_UI,
            [{"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "a", "metadata": {"timestamp": at}} for at in (1, 2)],
        ),
        (OPENAI_CHAT, [{"choices": [{"index": i, "delta": {"content": "a"}} for i in (0, 1)]}] * 2),
        (OPENAI_CHAT, [{"choices": [{"index": i, "delta": {"content": "a"}}]} for i in (0, 1)]),
        (OPENAI_CHAT, [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}] * 2),
        (OPENAI_CHAT, [{"choices": [{"index": 0, "delta": {"content": "a", "refusal": "b"}}]}] * 2),
        (
            ANTHROPIC,
            [{"type": "content_block_delta", "index": i, "delta": {"type": "text_delta", "text": "a"}} for i in (0, 1)],
        ),
        (
            ANTHROPIC,
            [{"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "a"}}] * 2,
        ),
        (ANTHROPIC, [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}}] * 2),
        (OPENAI_RESPONSES, [{"type": "response.output_text.done", "text": "a", "delta": "b"}] * 2),
        (
            OPENAI_RESPONSES,
            [{"type": "response.output_text.delta", "delta": "a", "logprobs": [{"token": "a", "logprob": at}]} for at in (1, 2)],
        ),
    ],
)
def test_what_is_no_delta_of_the_same_part_is_left_as_it_is(wire: Any, messages: list[dict[str, Any]]) -> None:
    events = [Event(compact(message)) for message in messages]
    assert [*wire.fold(events)] == events


@pytest.mark.parametrize("about", [{"event": "other"}, {"retry": 5}])
def test_events_that_differ_beside_their_data_are_left_as_they_are(about: dict[str, Any]) -> None:
    events = [Event(compact(AI_DELTA)), Event(compact(AI_DELTA), **about)]
    assert [*fold_of(SAMPLES["ai_sdk"])(events)] == events


@pytest.mark.parametrize(
    "data", ["", "{", "null", '{"delta":"a"', '["delta"]', '{"type":"text-delta","delta":"a","delta":"b"}', "[" * 9999]
)
def test_data_that_is_no_message_is_left_as_it_is(sample: Sample, data: str) -> None:
    events = [Event(data), Event(data)]
    assert [*fold_of(sample)(events)] == events


def test_what_a_framework_has_sent_is_left_out_of_what_is_joined() -> None:
    def event(at: int) -> Event:
        raw = {"rawEvent": {"n": at, "text": "\ud83d"}}
        return Event(loose({"type": "TEXT_MESSAGE_CONTENT", **raw, "messageId": "m", "timestamp": at, "delta": "é\ud83d"}))

    (alone,) = AG_UI.fold([event(1)])  # type: ignore[misc]
    assert alone == event(1)
    (both,) = AG_UI.fold([event(1), event(2)])  # type: ignore[misc]
    expected = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "timestamp": 2, "delta": "é\ud83dé\ud83d"}
    assert json.loads(both.data) == expected
    assert encode(both)


def test_the_last_numbers_are_kept() -> None:
    deltas = SAMPLES["openai_responses"].events([("text", ["a", "b", "c"])])[3:6]
    (folded,) = OPENAI_RESPONSES.fold(deltas)  # type: ignore[misc]
    assert json.loads(folded.data) == {**json.loads(deltas[-1].data), "delta": "abc"}


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_no_more_than_a_bound_of_a_part_is_held(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FOLD_CHARACTERS", 2000)
    sample = SAMPLES[name]
    events = sample.events([("text", ["0123456789"] * 1000), ("tool", [""] * 5000), ("text", ["x" * 9000, "y"])])
    held = 0
    given = 0

    def counted() -> Any:
        nonlocal given
        for event in events:
            given += 1
            yield event

    before = 0
    folded = []
    for event in fold_of(sample)(counted()):
        held, before = max(held, given - before), given
        folded.append(event)
    joined = [event for event in folded if event not in events]
    assert len(joined) >= 5
    assert max(len(event.data) for event in joined) < 2500
    assert held <= 2002, "deltas without text count too"
    assert added_up(sample, folded) == added_up(sample, events)


@pytest.mark.alone
def test_twenty_thousand_deltas_are_one_event_and_cost_little(sample: Sample) -> None:
    fold = fold_of(sample)
    words = [f"word{number % 10} " for number in range(DELTAS)]
    events = numbered(event for event in sample.events([("text", words)]) if "word" in event.data)[:DELTAS]
    spent = []
    for _ in range(7):
        began = time.thread_time()
        folded = [*fold(ahead(events, 4096))]
        spent.append(time.thread_time() - began)
    assert [event.id for event in folded] == [f"abcdefgh.{DELTAS}"]
    text, whole, rest = len("".join(words)), sum(map(len, map(encode, events))), sum(map(len, map(encode, folded)))
    assert rest - text <= 0.01 * (whole - text), "of what is not text, a hundredth is left at most"
    assert sample.wire.text(folded) == "".join(words)
    assert min(spent) < 0.05
