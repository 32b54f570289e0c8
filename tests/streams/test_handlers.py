"""The shapes of a handler, told apart by their signature, and what is refused while the project is loaded."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.exceptions import RouteError
from django_agent_sse.streams.handlers import HandlerSignature
from tests.inprocess import serve

NONE: frozenset[str] = frozenset()
NUMBER = frozenset({"number"})


async def direct(c: Context, stream: Stream, number: int) -> None:
    await stream.write(number)


async def direct_under_another_name(c: Context, out: Stream, *, number: int) -> None:
    await out.write(number)


async def direct_with_all(c: Context, stream: Stream, **kwargs: Any) -> None:
    await stream.write(kwargs["number"])


async def direct_without_kwargs(c: Context, stream: Stream) -> None:
    await stream.write(c.params["number"])


def factory(c: Context, number: int) -> Any:
    async def handler(stream: Stream) -> None:
        await stream.write(number)

    return handler


async def async_factory(c: Context, number: int) -> Any:
    await asyncio.sleep(0)
    return factory(c, number)


def factory_with_a_default(c: Context, number: int, colour: str = "green") -> Any:
    return factory(c, number)


def factory_of_a_generator(c: Context, number: int) -> Any:
    async def handler(stream: Stream) -> AsyncIterator[int]:
        yield number

    return handler


def factory_of_an_iterator(c: Context, number: int) -> Any:
    return async_generator(c, number)


async def async_generator(c: Context, number: int) -> AsyncIterator[int]:
    yield number


def sync_generator(c: Context, number: int) -> Iterator[int]:
    yield number


class Callable_:  # noqa: N801
    """An object with a direct handler."""

    async def __call__(self, c: Context, stream: Stream, number: int) -> None:
        await stream.write(number)


class Methods:
    async def handle(self, c: Context, stream: Stream, number: int) -> None:
        await stream.write(number)


def decorated(inner: Any) -> Any:
    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return wrapper


SHAPES: list[Callable[..., Any]] = [
    direct,
    direct_under_another_name,
    direct_with_all,
    direct_without_kwargs,
    factory,
    async_factory,
    factory_with_a_default,
    factory_of_a_generator,
    factory_of_an_iterator,
    async_generator,
    sync_generator,
    Callable_(),
    Methods().handle,
    functools.partial(direct),
    decorated(direct),
    decorated(async_generator),
]


@pytest.mark.parametrize("handler", SHAPES, ids=lambda handler: getattr(handler, "__qualname__", type(handler).__name__))
async def test_each_shape_gets_the_urls_values_by_name_and_writes(handler: Any) -> None:
    async with serve(handler, control_events=False) as site:
        (event,) = await site.connect().rest()
    assert event.data == "7"


async def test_a_factory_may_answer_with_a_response() -> None:
    def refusing(c: Context) -> Any:
        return c.json({"error": "no such build"}, status=404)

    async with serve(refusing) as site:
        client = await site.connect().over()
        assert (client.status, client.json()) == (404, {"error": "no such build"})


@pytest.mark.parametrize("made", [None, 42, "text"])
async def test_a_factory_that_returns_nothing_usable_is_a_500_that_names_it(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    def forgetful(c: Context) -> Any:
        return made

    async with serve(forgetful) as site:
        assert (await site.connect().over()).status == 500
    assert "nothing that takes a stream" in caplog.text


async def test_a_factory_that_returns_a_plain_function_is_a_500_that_names_it(caplog: pytest.LogCaptureFixture) -> None:
    def plain(c: Context) -> Any:
        return lambda stream: None

    async with serve(plain) as site:
        assert (await site.connect().over()).status == 500
    assert "is a plain function; write `async def handler(stream)`" in caplog.text


async def test_an_async_generator_is_closed_when_the_client_leaves() -> None:
    closed = []

    async def generate(c: Context) -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            closed.append("finally")

    async with serve(generate) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        assert closed == ["finally"]


async def test_a_generator_may_fail_before_and_after_its_first_event() -> None:
    async def generate(c: Context) -> AsyncIterator[str]:
        if "early" in c.query:
            raise ValueError
        yield "first"
        raise ValueError

    async with serve(generate) as site:
        assert (await site.connect(query="early").over()).status == 500
        assert [event.event for event in await site.connect().rest()] == [None, "sse.error"]


# Refused


def sync_direct(c: Context, stream: Stream) -> None: ...


def no_arguments() -> None: ...


async def two_unknown(c: Context, stream: Stream, other: int) -> None: ...


async def generator_with_stream(c: Context, stream: Stream) -> AsyncIterator[int]:
    yield 1


async def stream_third(c: Context, number: int, stream: Stream) -> None: ...


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (sync_direct, "plain function that takes a stream"),
        (decorated(sync_direct), "plain function that takes a stream"),
        (no_arguments, "takes no arguments"),
        (two_unknown, "takes stream, other, but the URL captures number"),
        (generator_with_stream, "a generator .*, it needs no stream"),
        (stream_third, "it stands second, after the context"),
        (42, "is not callable"),
    ],
)
def test_a_handler_that_fits_no_shape_is_refused_with_the_mend(handler: Any, says: str) -> None:
    with pytest.raises(RouteError, match=says):
        HandlerSignature(handler).takes_stream(NUMBER)


def test_a_sync_handler_with_a_stream_is_refused_at_once() -> None:
    with pytest.raises(RouteError, match="`async def`"):
        HandlerSignature(sync_direct).check_early(NONE)


def test_a_url_value_named_stream_is_a_url_value() -> None:
    def factory(c: Context, stream: str) -> Any:
        return None

    HandlerSignature(factory).takes_stream(frozenset({"stream"}))


def test_what_an_include_may_capture_is_looked_at_when_a_request_comes() -> None:
    HandlerSignature(two_unknown).check_early(NONE)
