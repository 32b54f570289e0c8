"""The SDKs of OpenAI, from PyPI and npm: what they make of runs that end in any way, and of connections that break anywhere."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.npm import Node
from tests.site.routes.llm import HALF, TOKENS
from tests.timing import LONG

from .cutting import HEAD, Cut, cuts
from .sdks import NPM, Ask, SDKs, Seen, asking, resumed
from .site import Site

WHOLE, BEGUN = "".join(TOKENS), "".join(TOKENS[:HALF])
PROMPT: Any = [{"role": "user", "content": "hello"}]
CHUNKS = 1 + len(TOKENS) + 2
"""Events that the clients of chat completions show; ``[DONE]`` is one more."""
EVENTS = 3 + len(TOKENS) + 4
LAST = ("response.completed", "response.failed", "response.incomplete", "error")


# The SDK is imported where it is asked: that takes seconds, and every process of a run imports this file to know its tests.
@cache
def client(base: str, retries: int) -> Any:
    import openai

    return openai.OpenAI(base_url=base, api_key="k", max_retries=retries)


@cache
def async_client(base: str, retries: int) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=retries)


def take_chat(seen: Seen, chunk: Any) -> None:
    usage = None if chunk.usage is None else chunk.usage.total_tokens
    seen.take("chunk", chunk.choices[0].delta.content if chunk.choices else "", usage=usage, id=chunk.id)


def take_responses(seen: Seen, event: Any) -> None:
    response = getattr(event, "response", None)
    usage = getattr(response, "usage", None)
    text = event.delta if event.type == "response.output_text.delta" else ""
    about = {"number": event.sequence_number, "id": getattr(response, "id", "")}
    seen.take(event.type, text, usage=None if usage is None else usage.total_tokens, **about)


def chat(ask: Ask, seen: Seen) -> None:
    for chunk in client(ask.url, ask.retries).chat.completions.create(model=ask.model, messages=PROMPT, stream=True, **ask.extra):
        take_chat(seen, chunk)


async def chat_async(ask: Ask, seen: Seen) -> None:
    stream = await async_client(ask.url, ask.retries).chat.completions.create(
        model=ask.model, messages=PROMPT, stream=True, **ask.extra
    )
    async for chunk in stream:
        take_chat(seen, chunk)


def chat_helper(ask: Ask, seen: Seen) -> None:
    with client(ask.url, ask.retries).chat.completions.stream(model=ask.model, messages=PROMPT, **ask.extra) as stream:
        for event in stream:
            if event.type == "chunk":
                take_chat(seen, event.chunk)
        seen.final = stream.get_final_completion().choices[0].message.content


def responses(ask: Ask, seen: Seen) -> None:
    for event in client(ask.url, ask.retries).responses.create(model=ask.model, input="hello", stream=True, **ask.extra):
        take_responses(seen, event)


async def responses_async(ask: Ask, seen: Seen) -> None:
    stream = await async_client(ask.url, ask.retries).responses.create(model=ask.model, input="hello", stream=True, **ask.extra)
    async for event in stream:
        take_responses(seen, event)


def responses_helper(ask: Ask, seen: Seen) -> None:
    with client(ask.url, ask.retries).responses.stream(model=ask.model, input="hello", **ask.extra) as stream:
        for event in stream:
            take_responses(seen, event)
        response = stream.get_final_response()
        seen.final = f"{response.status}: {response.output_text}"


def responses_again(ask: Ask, seen: Seen) -> None:
    """Comes back with ``starting_after`` until it has the end."""
    import openai

    sdk = client(ask.url, ask.retries).responses
    while not over(seen):
        try:
            if seen.id:
                stream = sdk.retrieve(seen.id, stream=True, starting_after=seen.numbers[-1], **ask.extra)
            else:
                stream = sdk.create(model=ask.model, input="hello", stream=True, **ask.extra)
            for event in stream:
                take_responses(seen, event)
        except openai.APIConnectionError:
            pass
        seen.connections += 1


async def responses_again_async(ask: Ask, seen: Seen) -> None:
    import openai

    sdk = async_client(ask.url, ask.retries).responses
    while not over(seen):
        try:
            if seen.id:
                stream = await sdk.retrieve(seen.id, stream=True, starting_after=seen.numbers[-1], **ask.extra)
            else:
                stream = await sdk.create(model=ask.model, input="hello", stream=True, **ask.extra)
            async for event in stream:
                take_responses(seen, event)
        except openai.APIConnectionError:
            pass
        seen.connections += 1


def over(seen: Seen) -> bool:
    """It has an end, or has come back more often than there are events."""
    return (bool(seen.kinds) and seen.kinds[-1] in LAST) or seen.connections > 2 * EVENTS


BLOCKING = {
    "chat": chat,
    "chat helper": chat_helper,
    "responses": responses,
    "responses helper": responses_helper,
    "responses again": responses_again,
}
ASYNC = {"chat async": chat_async, "responses async": responses_async, "responses again async": responses_again_async}
CHAT = ["chat", "chat async", "chat helper", f"chat{NPM}", f"chat helper{NPM}"]
RESPONSES = ["responses", "responses async", "responses helper", f"responses{NPM}", f"responses helper{NPM}"]
PLAIN = ["chat", "chat async", f"chat{NPM}", "responses", "responses async", f"responses{NPM}"]
"""Those whose connections are cut in the short form: the helpers read by the same code."""
BROKEN = {"APIConnectionError", "TypeError", "OpenAIError"}
"""What the SDKs raise where a connection breaks; in Node.js it is what ``fetch()`` itself raises, or a helper's of that."""
AGAIN = ["responses again", "responses again async", f"responses again{NPM}"]
ALL = CHAT + RESPONSES + AGAIN


@pytest.fixture(scope="module")
def sdks(site: Site, node: Node) -> Iterator[SDKs]:
    with asking(site, BLOCKING, ASYNC, node) as sdks:
        yield sdks


def own(site: Site) -> Any:
    """A client of a test's own, of the server itself."""
    return client(f"{site.server.url}/llm", 0)


def must_be_told(seen: Seen, name: str, sentence: str) -> None:
    """The client has half of the answer, and says itself that this is not all."""
    assert seen.text == BEGUN, (name, seen)
    if name in CHAT:
        assert seen.error == "APIError", (name, seen)
        assert sentence in seen.message, (name, seen)
        assert seen.final is None, (name, seen)
    else:
        stopped = "stopped" in sentence
        assert seen.kinds[-1] == ("response.incomplete" if stopped else "response.failed"), (name, seen)
        assert seen.numbers == [*range(len(seen.numbers))], (name, seen)
        assert seen.final == (f"cancelled: {BEGUN}" if stopped and name == f"responses helper{NPM}" else None), (name, seen)
        assert (seen.error is None) == (name in AGAIN or (stopped and name != "responses helper")), (name, seen)


def test_each_client_has_the_whole_answer_once_and_in_order(sdks: SDKs) -> None:
    for name, asked in sdks.ask_all(ALL).items():
        seen = asked.result()
        assert (seen.text, seen.error, seen.usage) == (WHOLE, None, 7), (name, seen)
        if name in CHAT:
            assert len(seen.kinds) == CHUNKS, (name, seen)
            assert seen.final in (None, WHOLE), (name, seen)
        else:
            assert (seen.numbers, seen.kinds[-1]) == ([*range(EVENTS)], "response.completed"), (name, seen)
            assert seen.final in (None, f"completed: {WHOLE}"), (name, seen)


def test_a_run_that_fails_is_an_error_of_each_client(sdks: SDKs) -> None:
    for name, one in sdks.ask_all(ALL, model="fails").items():
        must_be_told(one.result(), name, "The run has failed.")


@pytest.mark.parametrize("model", ["whole", "fails"])
def test_a_client_that_comes_back_after_each_error_of_a_connection_comes_to_an_end(site: Site, model: str) -> None:
    """It does not know which event is the last one; the answer of a run that failed is broken off after that."""
    import openai

    site.proxy.plan(model, cut=Cut(EVENTS))
    sdk, numbers, id = client(f"{site.proxy.url}/llm", 0).responses, list[int](), ""
    stream = sdk.create(model=model, input="hello", stream=True, extra_query={"key": model})
    for _ in range(2):
        try:
            for event in stream:
                numbers.append(event.sequence_number)
                id = getattr(getattr(event, "response", None), "id", "") or id
        except openai.APIConnectionError:
            stream = sdk.retrieve(id, stream=True, starting_after=numbers[-1])
        else:
            break
    else:
        raise AssertionError("it has all, and asks for ever")
    assert numbers == [*range(len(numbers))]
    assert event.type == ("response.completed" if model == "whole" else "response.failed")


def test_a_run_that_is_stopped_says_so(site: Site, sdks: SDKs) -> None:
    asked = sdks.ask_all(CHAT + RESPONSES, model="waits")
    for name, one in asked.items():
        id = one.half()
        if name in RESPONSES:
            cancelled = own(site).responses.cancel(id)
            assert (cancelled.id, cancelled.status, cancelled.output_text) == (id, "cancelled", BEGUN)
        else:
            site.stop(f"llm/chat/completions/{id}/")
    for name, one in asked.items():
        must_be_told(one.result(), name, "The run was stopped.")


def test_a_run_whose_process_is_told_to_end_is_interrupted(site: Site, sdks: SDKs) -> None:
    asked = {name: sdks.ask(name, model="waits", first=site.mortal().url) for name in ALL}
    for one in asked.values():
        one.half()
    site.end_mortal("interrupted")
    for name, one in asked.items():
        must_be_told(one.result(), name, "The run was interrupted")


def test_a_run_whose_process_is_killed_is_lost_for_whoever_asks_again(site: Site, sdks: SDKs) -> None:
    keys = {name: uuid.uuid4().hex for name in ALL}
    about: dict[str, Any] = {"path": "/brief", "model": "waits"}
    killed = {name: sdks.ask(name, key=key, first=site.mortal().url, **about) for name, key in keys.items()}
    for one in killed.values():
        one.half()
    site.end_mortal("lost")
    lost = {name: sdks.ask(name, key=key, **about) for name, key in keys.items()}
    for name, one in killed.items():
        seen = one.result()
        if name in AGAIN:  # it comes back, to where a load balancer sends it now
            must_be_told(seen, name, "The run was lost")
            continue
        assert (seen.text, seen.final) == (BEGUN, None), (name, seen)
        assert seen.error in BROKEN, (name, seen)
    for name, one in lost.items():
        must_be_told(one.result(), name, "The run was lost")


def test_a_connection_that_is_cut_anywhere_is_an_error_of_each_client(sdks: SDKs) -> None:
    """It cannot come back; none takes what it has for the whole answer."""
    asked = {
        (name, cut): sdks.ask(name, cut=cut)
        for name in (CHAT + RESPONSES if LONG else PLAIN)
        for cut in cuts(CHUNKS + 1 if name in CHAT else EVENTS)
    }
    for (name, cut), one in asked.items():
        seen = one.result()
        assert WHOLE.startswith(seen.text), (name, cut, seen)
        if seen.error is None:  # it does not look beyond [DONE]
            assert (name in CHAT, cut, seen.text) == (True, Cut(CHUNKS + 1), WHOLE), (name, cut, seen)
        else:
            assert seen.error in BROKEN, (name, cut, seen)
            assert seen.final is None


def test_a_client_that_comes_back_has_each_event_once_wherever_it_was_cut(sdks: SDKs) -> None:
    asked = {(name, cut): sdks.ask(name, key=uuid.uuid4().hex, cut=cut) for name in AGAIN for cut in cuts(EVENTS)}
    for (name, cut), one in asked.items():
        must_be_whole(one.result(), (name, cut))


def test_a_client_that_is_cut_again_and_again_has_each_event_once(sdks: SDKs) -> None:
    """Each of its connections brings one event."""
    asked = {name: sdks.ask(name, key=uuid.uuid4().hex, cut=Cut(1), every=True) for name in AGAIN}
    for name, one in asked.items():
        seen = one.result()
        must_be_whole(seen, name)
        assert seen.connections >= EVENTS


def must_be_whole(seen: Seen, about: object) -> None:
    assert (seen.text, seen.error, seen.usage) == (WHOLE, None, 7), (about, seen)
    assert (seen.numbers, seen.kinds[-1]) == ([*range(EVENTS)], "response.completed"), (about, seen)


def test_the_same_question_with_the_same_key_has_all_of_it_after_a_cut(sdks: SDKs) -> None:
    key = uuid.uuid4().hex
    cut = sdks.ask("chat", key=key, cut=Cut(3, 2)).result()
    again = sdks.ask("chat", key=key).result()
    assert (again.text, again.error, again.id) == (WHOLE, None, cut.id)


def test_a_client_of_ones_own_comes_back_to_chat_completions_by_the_last_id(site: Site) -> None:
    for cut in cuts(CHUNKS + 1):
        *chunks, done = resumed(site, "/llm/chat/completions", cut, end="[DONE]")
        assert done == "[DONE]", cut
        read = [json.loads(chunk) for chunk in chunks]
        assert "".join(choice["delta"].get("content", "") for chunk in read for choice in chunk["choices"]) == WHOLE, cut
        assert sum(chunk["usage"] is not None for chunk in read) == 1, cut


def test_a_response_is_asked_after_at_any_time(site: Site, sdks: SDKs) -> None:
    import openai

    def now(id: str) -> tuple[str, str, str]:
        response = own(site).responses.retrieve(id)
        return response.id, response.status, response.output_text

    waiting = sdks.ask("responses", model="waits")
    id = waiting.half()
    assert now(id) == (id, "in_progress", BEGUN)
    own(site).responses.cancel(id)
    assert now(waiting.result().id) == (id, "cancelled", BEGUN)
    assert own(site).responses.cancel(id).status == "cancelled", "as often as one likes"
    with pytest.raises(openai.NotFoundError):
        now("run_nobody_has_begun")
    for model, about in {"whole": ("completed", WHOLE), "fails": ("failed", BEGUN)}.items():
        id = sdks.ask("responses", model=model).result().id
        assert now(id) == (id, *about)


def test_a_helper_that_asks_for_all_of_a_response_leaves_out_what_it_has(site: Site, sdks: SDKs) -> None:
    id = sdks.ask("responses").result().id
    for number in range(0, EVENTS, 1 if LONG else 3):
        with own(site).responses.stream(response_id=id, starting_after=number) as stream:
            assert [event.sequence_number for event in stream] == [*range(number + 1, EVENTS)]
            assert stream.get_final_response().output_text == WHOLE
        assert [*own(site).responses.retrieve(id, stream=True, starting_after=EVENTS - 1)] == []


def test_a_request_that_an_sdk_sends_again_by_itself_joins_the_run_that_it_has_begun(site: Site, sdks: SDKs) -> None:
    """The answer was lost before its head came. Their SDKs send no key of their own: it is given to them."""
    keys = {name: uuid.uuid4().hex for name in PLAIN}
    asked = {name: sdks.ask(name, key=key, cut=HEAD, retries=2) for name, key in keys.items()}
    for name, one in asked.items():
        seen = one.result()
        assert (seen.text, seen.error) == (WHOLE, None), (name, seen)
        assert len(site.proxy.plans[keys[name]].asked) == 2, name
        assert site.server.steps(keys[name]) == ["started"], name
