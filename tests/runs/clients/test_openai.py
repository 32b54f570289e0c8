"""The SDKs of OpenAI, from PyPI and npm: what they make of runs that end in any way, and of connections that break anywhere."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
import pytest

from tests.live.servers import Server
from tests.npm import Node
from tests.site.routes.llm import HALF, TOKENS
from tests.timing import LONG

from .relay import Relay, cuts, relaying
from .resuming import resumed
from .sdks import Ask, Asked, SDKs, Seen, asking, shared_log

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
    for chunk in client(ask.base, ask.retries).chat.completions.create(
        model=ask.model, messages=PROMPT, stream=True, **ask.extra
    ):
        take_chat(seen, chunk)


async def chat_async(ask: Ask, seen: Seen) -> None:
    stream = await async_client(ask.base, ask.retries).chat.completions.create(
        model=ask.model, messages=PROMPT, stream=True, **ask.extra
    )
    async for chunk in stream:
        take_chat(seen, chunk)


def chat_helper(ask: Ask, seen: Seen) -> None:
    with client(ask.base, ask.retries).chat.completions.stream(model=ask.model, messages=PROMPT, **ask.extra) as stream:
        for event in stream:
            if event.type == "chunk":
                take_chat(seen, event.chunk)
        seen.final = stream.get_final_completion().choices[0].message.content


def responses(ask: Ask, seen: Seen) -> None:
    for event in client(ask.base, ask.retries).responses.create(model=ask.model, input="hello", stream=True, **ask.extra):
        take_responses(seen, event)


async def responses_async(ask: Ask, seen: Seen) -> None:
    stream = await async_client(ask.base, ask.retries).responses.create(model=ask.model, input="hello", stream=True, **ask.extra)
    async for event in stream:
        take_responses(seen, event)


def responses_helper(ask: Ask, seen: Seen) -> None:
    with client(ask.base, ask.retries).responses.stream(model=ask.model, input="hello", **ask.extra) as stream:
        for event in stream:
            take_responses(seen, event)
        response = stream.get_final_response()
        seen.final = f"{response.status}: {response.output_text}"


def responses_again(ask: Ask, seen: Seen) -> None:
    """Comes back with ``starting_after`` until it has the end."""
    import openai

    sdk, again = client(ask.base, ask.retries).responses, {"extra_headers": again_with(ask)}
    while not over(seen):
        try:
            if not seen.connections:
                stream = sdk.create(model=ask.model, input="hello", stream=True, **ask.extra)
            elif not seen.id:
                stream = sdk.create(model=ask.model, input="hello", stream=True, **ask.extra | again)
            else:
                stream = sdk.retrieve(seen.id, stream=True, starting_after=seen.numbers[-1], **again)
            for event in stream:
                take_responses(seen, event)
        except openai.APIConnectionError:
            pass
        seen.connections += 1


async def responses_again_async(ask: Ask, seen: Seen) -> None:
    import openai

    sdk, again = async_client(ask.base, ask.retries).responses, {"extra_headers": again_with(ask)}
    while not over(seen):
        try:
            if not seen.connections:
                stream = await sdk.create(model=ask.model, input="hello", stream=True, **ask.extra)
            elif not seen.id:
                stream = await sdk.create(model=ask.model, input="hello", stream=True, **ask.extra | again)
            else:
                stream = await sdk.retrieve(seen.id, stream=True, starting_after=seen.numbers[-1], **again)
            async for event in stream:
                take_responses(seen, event)
        except openai.APIConnectionError:
            pass
        seen.connections += 1


def again_with(ask: Ask) -> dict[str, str]:
    return {name: value for name, value in ask.headers.items() if name != "X-Cut"} | {**ask.then}


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
NPM = ["chat", "chat helper", "responses", "responses helper", "responses again"]
CHAT = ["chat", "chat async", "chat helper", "chat (npm)", "chat helper (npm)"]
RESPONSES = ["responses", "responses async", "responses helper", "responses (npm)", "responses helper (npm)"]
CUT = ["chat", "chat async", "chat (npm)", "responses", "responses async", "responses (npm)"]
"""Those whose connections are cut in the short form: the helpers read by the same code."""
BROKEN = {"APIConnectionError", "TypeError", "OpenAIError"}
"""What the SDKs raise where a connection breaks; in Node.js it is what ``fetch()`` itself raises, or a helper's of that."""
AGAIN = ["responses again", "responses again async", "responses again (npm)"]


@pytest.fixture(scope="module")
def about(redis_url: str) -> dict[str, Any]:
    return shared_log(redis_url)


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], about: dict[str, Any]) -> Server:
    return start("uvicorn", agent_sse=about)


@pytest.fixture(scope="module")
def relay(server: Server, sdks: SDKs) -> Iterator[Relay]:
    """It goes before the clients do, so that none waits for an answer."""
    with relaying(main=server.url) as relay:
        yield relay


@pytest.fixture(scope="module")
def sdks(node: Node) -> Iterator[SDKs]:
    with asking(BLOCKING, ASYNC, node, "llm.mjs", NPM) as sdks:
        yield sdks


def base(relay: Relay, name: str = "main") -> str:
    return f"{relay.url}/{name}/llm"


def ask_all(relay: Relay, sdks: SDKs, names: list[str], **about: Any) -> dict[str, Asked]:
    return {name: sdks.ask(name, **{"base": base(relay), **about}) for name in names}


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
        assert seen.final == (f"cancelled: {BEGUN}" if stopped and name == "responses helper (npm)" else None), (name, seen)
        assert (seen.error is None) == (name in AGAIN or (stopped and name != "responses helper")), (name, seen)


def test_each_client_has_the_whole_answer_once_and_in_order(relay: Relay, sdks: SDKs) -> None:
    for name, asked in ask_all(relay, sdks, sdks.names).items():
        seen = asked.result()
        assert (seen.text, seen.error, seen.usage) == (WHOLE, None, 7), (name, seen)
        if name in CHAT:
            assert len(seen.kinds) == CHUNKS, (name, seen)
            assert seen.final in (None, WHOLE), (name, seen)
        else:
            assert (seen.numbers, seen.kinds[-1]) == ([*range(EVENTS)], "response.completed"), (name, seen)
            assert seen.final in (None, f"completed: {WHOLE}"), (name, seen)


def test_a_run_that_fails_is_an_error_of_each_client(relay: Relay, sdks: SDKs) -> None:
    asked = ask_all(relay, sdks, sdks.names, model="fails")
    for name, one in asked.items():
        must_be_told(one.result(), name, "The run has failed.")


@pytest.mark.parametrize("model", ["whole", "fails"])
def test_a_client_that_comes_back_after_each_error_of_a_connection_comes_to_an_end(relay: Relay, model: str) -> None:
    """It does not know which event is the last one; the answer of a run that failed is broken off after that."""
    import openai

    sdk, numbers, id = client(base(relay), 0).responses, list[int](), ""
    stream = sdk.create(model=model, input="hello", stream=True, extra_headers={"X-Cut": f"{EVENTS}/0"})
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


def test_a_run_that_is_stopped_says_so(relay: Relay, sdks: SDKs) -> None:
    asked = ask_all(relay, sdks, CHAT + RESPONSES, model="waits")
    for name, one in asked.items():
        one.wait_half()
        if name in RESPONSES:
            cancelled = client(base(relay), 0).responses.cancel(one.seen.id)
            assert (cancelled.id, cancelled.status, cancelled.output_text) == (one.seen.id, "cancelled", BEGUN)
        else:
            assert httpx.delete(f"{base(relay)}/chat/completions/{one.seen.id}/").json()["run"] == one.seen.id
    for name, one in asked.items():
        must_be_told(one.result(), name, "The run was stopped.")


def test_a_run_whose_process_ends_is_interrupted_or_lost_and_its_client_is_told(
    relay: Relay, sdks: SDKs, start: Callable[..., Server], about: dict[str, Any]
) -> None:
    ending, dying = (start("uvicorn", agent_sse=about) for _ in range(2))
    relay.origins |= {"ending": ending.url, "dying": dying.url}
    interrupted = ask_all(relay, sdks, sdks.names, base=base(relay, "ending"), model="waits")
    keys = {name: {"Idempotency-Key": uuid.uuid4().hex} for name in sdks.names}
    killed = {name: sdks.ask(name, base=f"{base(relay, 'dying')}/brief", model="waits", headers=keys[name]) for name in keys}
    for one in (*interrupted.values(), *killed.values()):
        one.wait_half()
    ending.signal(signal.SIGTERM)
    relay.origins["dying"] = relay.origins["main"]  # as a load balancer does
    dying.kill()
    lost = {name: sdks.ask(name, base=f"{base(relay)}/brief", model="waits", headers=keys[name]) for name in keys}
    for name, one in killed.items():
        seen = one.result()
        if name in AGAIN:
            must_be_told(seen, name, "The run was lost")
            continue
        assert (seen.text, seen.final) == (BEGUN, None), (name, seen)
        assert seen.error in BROKEN, (name, seen)
    for name, one in interrupted.items():
        must_be_told(one.result(), name, "The run was interrupted")
    for name, one in lost.items():
        must_be_told(one.result(), name, "The run was lost")


def test_a_connection_that_is_cut_anywhere_is_an_error_of_each_client(relay: Relay, sdks: SDKs) -> None:
    """It cannot come back; none takes what it has for the whole answer."""
    asked = {
        (name, cut): sdks.ask(name, base=base(relay), headers={"X-Cut": cut})
        for name in (CUT if not LONG else CHAT + RESPONSES)
        for cut in cuts(CHUNKS + 1 if name in CHAT else EVENTS)
    }
    for (name, cut), one in asked.items():
        seen = one.result()
        assert WHOLE.startswith(seen.text), (name, cut, seen)
        if seen.error is None:  # it does not look beyond [DONE]
            assert (name in CHAT, cut, seen.text) == (True, f"{CHUNKS + 1}/0", WHOLE), (name, cut, seen)
        else:
            assert seen.error in BROKEN, (name, cut, seen)
            assert seen.final is None


def test_a_client_that_comes_back_has_each_event_once_wherever_it_was_cut(relay: Relay, sdks: SDKs) -> None:
    asked = {
        (name, cut): sdks.ask(name, base=base(relay), headers={"X-Cut": cut, "Idempotency-Key": key})
        for name in AGAIN
        for cut in cuts(EVENTS)
        for key in [f"{name} {cut} {uuid.uuid4().hex}"]
    }
    for (name, cut), one in asked.items():
        must_be_whole(one.result(), (name, cut))


def test_a_client_that_is_cut_again_and_again_has_each_event_once(relay: Relay, sdks: SDKs) -> None:
    """Each of its connections brings one event."""
    for name in AGAIN:
        headers = {"X-Cut": "1/0", "Idempotency-Key": uuid.uuid4().hex}
        seen = sdks.ask(name, base=base(relay), headers=headers, then={"X-Cut": "1/0"}).result()
        must_be_whole(seen, name)
        assert seen.connections >= EVENTS


def must_be_whole(seen: Seen, about: object) -> None:
    assert (seen.text, seen.error, seen.usage) == (WHOLE, None, 7), (about, seen)
    assert (seen.numbers, seen.kinds[-1]) == ([*range(EVENTS)], "response.completed"), (about, seen)


def test_the_same_question_with_the_same_key_has_all_of_it_after_a_cut(relay: Relay, sdks: SDKs) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    cut = sdks.ask("chat", base=base(relay), headers={"X-Cut": "3/2", **key}).result()
    again = sdks.ask("chat", base=base(relay), headers=key).result()
    assert (again.text, again.error, again.id) == (WHOLE, None, cut.id)


def test_a_client_of_ones_own_comes_back_to_chat_completions_by_the_last_id(relay: Relay) -> None:
    with httpx.Client(timeout=60) as http:
        for cut in cuts(CHUNKS + 1):
            before, after = resumed(http, f"{base(relay)}/chat/completions", model="whole", cut=cut, end="[DONE]")
            *chunks, done = [json.loads(data) if data != "[DONE]" else data for data in before + after]
            assert done == "[DONE]", cut
            assert "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]) == WHOLE, cut
            assert sum(chunk["usage"] is not None for chunk in chunks) == 1, cut


def test_a_response_is_asked_after_at_any_time(relay: Relay, sdks: SDKs) -> None:
    import openai

    def now(id: str) -> tuple[str, str, str]:
        response = client(base(relay), 0).responses.retrieve(id)
        return response.id, response.status, response.output_text

    waiting = sdks.ask("responses", base=base(relay), model="waits")
    waiting.wait_half()
    assert now(waiting.seen.id) == (waiting.seen.id, "in_progress", BEGUN)
    client(base(relay), 0).responses.cancel(waiting.seen.id)
    assert now(waiting.result().id) == (waiting.seen.id, "cancelled", BEGUN)
    assert client(base(relay), 0).responses.cancel(waiting.seen.id).status == "cancelled", "as often as one likes"
    with pytest.raises(openai.NotFoundError):
        now("run_nobody_has_begun")
    for model, about in {"whole": ("completed", WHOLE), "fails": ("failed", BEGUN)}.items():
        id = sdks.ask("responses", base=base(relay), model=model).result().id
        assert now(id) == (id, *about)


def test_a_helper_that_asks_for_all_of_a_response_leaves_out_what_it_has(relay: Relay, sdks: SDKs) -> None:
    id = sdks.ask("responses", base=base(relay)).result().id
    for number in range(0, EVENTS, 1 if LONG else 3):
        with client(base(relay), 0).responses.stream(response_id=id, starting_after=number) as stream:
            assert [event.sequence_number for event in stream] == [*range(number + 1, EVENTS)]
            assert stream.get_final_response().output_text == WHOLE
        assert [*client(base(relay), 0).responses.retrieve(id, stream=True, starting_after=EVENTS - 1)] == []


RETRY = ["chat", "chat async", "responses", "responses async", "chat (npm)", "responses (npm)"]


def test_a_request_that_an_sdk_sends_again_by_itself_joins_the_run_that_it_has_begun(
    relay: Relay, sdks: SDKs, server: Server
) -> None:
    """The answer was lost before its head came. Their SDKs send no key of their own: it is given to them."""
    keys = {name: uuid.uuid4().hex for name in RETRY}
    asked = {
        name: sdks.ask(name, base=base(relay), headers={"X-Cut": "head", "Idempotency-Key": key}, query={"key": key}, retries=2)
        for name, key in keys.items()
    }
    for name, one in asked.items():
        seen = one.result()
        assert (seen.text, seen.error) == (WHOLE, None), (name, seen)
        assert relay.dropped[keys[name]] == 2, name
        assert server.steps(keys[name]) == ["started"], name
