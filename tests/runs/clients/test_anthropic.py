"""The SDKs of Anthropic, from PyPI and npm: what they make of runs that end in any way, and of connections that are cut."""

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
KINDS = [
    *("message_start", "content_block_start"),
    *("content_block_delta" for _ in TOKENS),
    *("content_block_stop", "message_delta", "message_stop"),
]


# The SDK is imported where it is asked: that takes seconds, and every process of a run imports this file to know its tests.
@cache
def client(base: str, retries: int) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=base, api_key="k", max_retries=retries)


@cache
def async_client(base: str, retries: int) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=base, api_key="k", max_retries=retries)


def question(ask: Ask) -> dict[str, Any]:
    return {"model": ask.model, "max_tokens": 9, "messages": PROMPT, **ask.extra}


def take(seen: Seen, event: Any) -> None:
    if event.type in KINDS:  # the helpers have events of their own beside these
        text = event.delta.text if event.type == "content_block_delta" else ""
        usage = event.usage.output_tokens if event.type == "message_delta" else None
        seen.take(event.type, text, usage=usage, id=event.message.id if event.type == "message_start" else "")


def messages(ask: Ask, seen: Seen) -> None:
    for event in client(ask.base, ask.retries).messages.create(stream=True, **question(ask)):
        take(seen, event)


async def messages_async(ask: Ask, seen: Seen) -> None:
    async for event in await async_client(ask.base, ask.retries).messages.create(stream=True, **question(ask)):
        take(seen, event)


def messages_helper(ask: Ask, seen: Seen) -> None:
    with client(ask.base, ask.retries).messages.stream(**question(ask)) as stream:
        for event in stream:
            take(seen, event)
        seen.final = stream.get_final_text()


async def messages_helper_async(ask: Ask, seen: Seen) -> None:
    async with async_client(ask.base, ask.retries).messages.stream(**question(ask)) as stream:
        async for event in stream:
            take(seen, event)
        seen.final = await stream.get_final_text()


BLOCKING = {"messages": messages, "messages helper": messages_helper}
ASYNC = {"messages async": messages_async, "messages helper async": messages_helper_async}
NPM = ["messages", "messages helper"]
PLAIN = ["messages", "messages async", "messages (npm)"]
"""Those whose connections are cut in the short form: the helpers read by the same code."""
TOLD = {"APIStatusError", "APIError", "AnthropicError"}
"""What the SDKs raise at an ``error`` event."""
BROKEN = {"APIConnectionError", "RemoteProtocolError", "TypeError", "AnthropicError"}
"""What they raise where a connection breaks; often it is what the library below them has raised."""


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


def ask_all(relay: Relay, sdks: SDKs, **about: Any) -> dict[str, Asked]:
    return {name: sdks.ask(name, **{"base": base(relay), **about}) for name in sdks.names}


def must_be_told(seen: Seen, name: str, sentence: str) -> None:
    """The client has half of the answer, and says itself that this is not all."""
    assert (seen.text, seen.final) == (BEGUN, None), (name, seen)
    assert seen.error in TOLD, (name, seen)
    assert sentence in seen.message, (name, seen)
    assert seen.kinds == KINDS[: 2 + HALF], "no part of it is ended that was open"


def test_each_client_has_the_whole_answer_once_and_in_order(relay: Relay, sdks: SDKs) -> None:
    for name, asked in ask_all(relay, sdks).items():
        seen = asked.result()
        assert (seen.text, seen.error, seen.usage, seen.kinds) == (WHOLE, None, 5, KINDS), (name, seen)
        assert seen.final in (None, WHOLE), (name, seen)


def test_a_run_that_fails_is_an_error_of_each_client(relay: Relay, sdks: SDKs) -> None:
    for name, asked in ask_all(relay, sdks, model="fails").items():
        must_be_told(asked.result(), name, "The run has failed.")


def test_a_run_that_is_stopped_is_an_error_that_says_so(relay: Relay, sdks: SDKs) -> None:
    asked = ask_all(relay, sdks, model="waits")
    for one in asked.values():
        one.wait_half()
        assert httpx.delete(f"{base(relay)}/v1/messages/{one.seen.id}/").json()["run"] == one.seen.id
    for name, one in asked.items():
        must_be_told(one.result(), name, "The run was stopped.")


def test_a_run_whose_process_ends_is_interrupted_or_lost_and_its_client_is_told(
    relay: Relay, sdks: SDKs, start: Callable[..., Server], about: dict[str, Any]
) -> None:
    ending, dying = (start("uvicorn", agent_sse=about) for _ in range(2))
    relay.origins |= {"ending": ending.url, "dying": dying.url}
    interrupted = ask_all(relay, sdks, base=base(relay, "ending"), model="waits")
    keys = {name: {"Idempotency-Key": uuid.uuid4().hex} for name in sdks.names}
    killed = {name: sdks.ask(name, base=f"{base(relay, 'dying')}/brief", model="waits", headers=keys[name]) for name in keys}
    for one in (*interrupted.values(), *killed.values()):
        one.wait_half()
    ending.signal(signal.SIGTERM)
    dying.kill()
    lost = {name: sdks.ask(name, base=f"{base(relay)}/brief", model="waits", headers=keys[name]) for name in keys}
    for name, one in killed.items():
        seen = one.result()
        assert (seen.text, seen.final) == (BEGUN, None), (name, seen)
        assert seen.error in BROKEN, (name, seen)
    for name, one in interrupted.items():
        must_be_told(one.result(), name, "The run was interrupted")
    for name, one in lost.items():
        must_be_told(one.result(), name, "The run was lost")


def test_a_connection_that_is_cut_anywhere_is_an_error_of_each_client(relay: Relay, sdks: SDKs) -> None:
    """It cannot come back; none takes what it has for the whole answer, even where only the end of the body is missing."""
    asked = {
        (name, cut): sdks.ask(name, base=base(relay), headers={"X-Cut": cut})
        for name in (sdks.names if LONG else PLAIN)
        for cut in cuts(len(KINDS))
    }
    for (name, cut), one in asked.items():
        seen = one.result()
        assert WHOLE.startswith(seen.text), (name, cut, seen)
        assert seen.error in BROKEN, (name, cut, seen)
        assert seen.final is None, (name, cut, seen)


def test_the_same_question_with_the_same_key_has_all_of_it_after_a_cut(relay: Relay, sdks: SDKs) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    cut = sdks.ask("messages", base=base(relay), headers={"X-Cut": "3/2", **key}).result()
    again = sdks.ask("messages", base=base(relay), headers=key).result()
    assert (again.text, again.error, again.id) == (WHOLE, None, cut.id)


def test_a_client_of_ones_own_comes_back_by_the_last_id(relay: Relay) -> None:
    with httpx.Client(timeout=60) as http:
        for cut in cuts(len(KINDS)):
            url = f"{base(relay)}/v1/messages"
            before, after = resumed(http, url, model="whole", cut=cut, end='{"type":"message_stop"}')
            events = [json.loads(data) for data in before + after]
            assert "".join(event["delta"].get("text", "") for event in events if "delta" in event) == WHOLE, cut
            assert [event["type"] for event in events if "delta" not in event] == [*KINDS[:2], KINDS[-3], KINDS[-1]], cut


def test_a_request_that_an_sdk_sends_again_by_itself_joins_the_run_that_it_has_begun(
    relay: Relay, sdks: SDKs, server: Server
) -> None:
    """The answer was lost before its head came. The SDKs send no key of their own: it is given to them."""
    keys = {name: uuid.uuid4().hex for name in PLAIN}
    asked = {
        name: sdks.ask(name, base=base(relay), headers={"X-Cut": "head", "Idempotency-Key": key}, query={"key": key}, retries=2)
        for name, key in keys.items()
    }
    for name, one in asked.items():
        seen = one.result()
        assert (seen.text, seen.error) == (WHOLE, None), (name, seen)
        assert relay.dropped[keys[name]] == 2, name
        assert server.steps(keys[name]) == ["started"], name
