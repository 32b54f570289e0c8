"""The SDKs of Anthropic, from PyPI and npm: what they make of runs that end in any way, and of connections that are cut."""

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
    for event in client(ask.url, ask.retries).messages.create(stream=True, **question(ask)):
        take(seen, event)


async def messages_async(ask: Ask, seen: Seen) -> None:
    async for event in await async_client(ask.url, ask.retries).messages.create(stream=True, **question(ask)):
        take(seen, event)


def messages_helper(ask: Ask, seen: Seen) -> None:
    with client(ask.url, ask.retries).messages.stream(**question(ask)) as stream:
        for event in stream:
            take(seen, event)
        seen.final = stream.get_final_text()


async def messages_helper_async(ask: Ask, seen: Seen) -> None:
    async with async_client(ask.url, ask.retries).messages.stream(**question(ask)) as stream:
        async for event in stream:
            take(seen, event)
        seen.final = await stream.get_final_text()


BLOCKING = {"messages": messages, "messages helper": messages_helper}
ASYNC = {"messages async": messages_async, "messages helper async": messages_helper_async}
PLAIN = ["messages", "messages async", f"messages{NPM}"]
"""Those whose connections are cut in the short form: the helpers read by the same code."""
ALL = [*BLOCKING, *ASYNC, f"messages{NPM}", f"messages helper{NPM}"]
TOLD = {"APIStatusError", "APIError", "AnthropicError"}
"""What the SDKs raise at an ``error`` event."""
BROKEN = {"APIConnectionError", "RemoteProtocolError", "TypeError", "AnthropicError"}
"""What they raise where a connection breaks; often it is what the library below them has raised."""


@pytest.fixture(scope="module")
def sdks(site: Site, node: Node) -> Iterator[SDKs]:
    with asking(site, BLOCKING, ASYNC, node) as sdks:
        yield sdks


def must_be_told(seen: Seen, name: str, sentence: str) -> None:
    """The client has half of the answer, and says itself that this is not all."""
    assert (seen.text, seen.final) == (BEGUN, None), (name, seen)
    assert seen.error in TOLD, (name, seen)
    assert sentence in seen.message, (name, seen)
    assert seen.kinds == KINDS[: 2 + HALF], "no part of it is ended that was open"


def test_each_client_has_the_whole_answer_once_and_in_order(sdks: SDKs) -> None:
    for name, asked in sdks.ask_all(ALL).items():
        seen = asked.result()
        assert (seen.text, seen.error, seen.usage, seen.kinds) == (WHOLE, None, 5, KINDS), (name, seen)
        assert seen.final in (None, WHOLE), (name, seen)


def test_a_run_that_fails_is_an_error_of_each_client(sdks: SDKs) -> None:
    for name, asked in sdks.ask_all(ALL, model="fails").items():
        must_be_told(asked.result(), name, "The run has failed.")


def test_a_run_that_is_stopped_is_an_error_that_says_so(site: Site, sdks: SDKs) -> None:
    asked = sdks.ask_all(ALL, model="waits")
    for one in asked.values():
        site.stop(f"llm/v1/messages/{one.half()}/")
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
        assert (seen.text, seen.final) == (BEGUN, None), (name, seen)
        assert seen.error in BROKEN, (name, seen)
    for name, one in lost.items():
        must_be_told(one.result(), name, "The run was lost")


def test_a_connection_that_is_cut_anywhere_is_an_error_of_each_client(sdks: SDKs) -> None:
    """It cannot come back; none takes what it has for the whole answer, even where only the end of the body is missing."""
    asked = {(name, cut): sdks.ask(name, cut=cut) for name in (ALL if LONG else PLAIN) for cut in cuts(len(KINDS))}
    for (name, cut), one in asked.items():
        seen = one.result()
        assert WHOLE.startswith(seen.text), (name, cut, seen)
        assert seen.error in BROKEN, (name, cut, seen)
        assert seen.final is None, (name, cut, seen)


def test_the_same_question_with_the_same_key_has_all_of_it_after_a_cut(sdks: SDKs) -> None:
    key = uuid.uuid4().hex
    cut = sdks.ask("messages", key=key, cut=Cut(3, 2)).result()
    again = sdks.ask("messages", key=key).result()
    assert (again.text, again.error, again.id) == (WHOLE, None, cut.id)


def test_a_client_of_ones_own_comes_back_by_the_last_id(site: Site) -> None:
    for cut in cuts(len(KINDS)):
        data = resumed(site, "/llm/v1/messages", cut, end='{"type":"message_stop"}')
        events = [json.loads(one) for one in data]
        assert "".join(event["delta"].get("text", "") for event in events if "delta" in event) == WHOLE, cut
        assert [event["type"] for event in events if "delta" not in event] == [*KINDS[:2], KINDS[-3], KINDS[-1]], cut


def test_a_request_that_an_sdk_sends_again_by_itself_joins_the_run_that_it_has_begun(site: Site, sdks: SDKs) -> None:
    """The answer was lost before its head came. The SDKs send no key of their own: it is given to them."""
    keys = {name: uuid.uuid4().hex for name in PLAIN}
    asked = {name: sdks.ask(name, key=key, cut=HEAD, retries=2) for name, key in keys.items()}
    for name, one in asked.items():
        seen = one.result()
        assert (seen.text, seen.error) == (WHOLE, None), (name, seen)
        assert len(site.proxy.plans[keys[name]].asked) == 2, name
        assert site.server.steps(keys[name]) == ["started"], name
