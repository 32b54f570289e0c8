"""The four shapes of a handler, in all the ways a callable can be written."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.http import Http404, HttpResponse, HttpResponseBase

from django_agent_sse import Context, Router, SSEView, Stream
from tests.serving import ask_route, connect, served


async def said(handler: Any, url: str = "/", route: str = "", **about: Any) -> list[str]:
    """What a handler says through a route."""
    router = Router()
    router.sse(route, handler, name="handler", **about)
    answer = await ask_route(router, url)
    assert answer.status == 200
    return answer.data


def factory(c: Context) -> Callable[[Stream], Any]:
    async def handler(stream: Stream) -> None:
        await stream.write("factory")

    return handler


async def async_factory(c: Context) -> Callable[[Stream], Any]:
    await asyncio.sleep(0)
    return factory(c)


async def direct(c: Context, stream: Stream) -> None:
    await stream.write("direct")


async def direct_by_another_name(context: Context, out: Stream) -> None:
    await out.write("another name")


async def async_generator(c: Context) -> AsyncIterator[str]:
    yield "async"
    yield "generator"


def sync_generator(c: Context) -> Iterator[str]:
    yield "sync"
    yield "generator"


def factory_of_an_async_generator(c: Context) -> Callable[[Stream], AsyncIterator[str]]:
    async def handler(stream: Stream) -> AsyncIterator[str]:
        yield "made"

    return handler


def factory_of_a_sync_generator(c: Context) -> Callable[[Stream], Iterator[str]]:
    def handler(stream: Stream) -> Iterator[str]:
        yield "made"

    return handler


def factory_of_a_generator_object(c: Context) -> AsyncIterator[str]:
    return async_generator(c)


def factory_of_a_sync_generator_object(c: Context) -> Iterator[str]:
    return sync_generator(c)


def factory_of_a_lambda(c: Context) -> Callable[[Stream], Any]:
    return lambda stream: direct(c, stream)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (factory, ["factory"]),
        (async_factory, ["factory"]),
        (direct, ["direct"]),
        (direct_by_another_name, ["another name"]),
        (async_generator, ["async", "generator"]),
        (sync_generator, ["sync", "generator"]),
        (factory_of_an_async_generator, ["made"]),
        (factory_of_a_sync_generator, ["made"]),
        (factory_of_a_generator_object, ["async", "generator"]),
        (factory_of_a_sync_generator_object, ["sync", "generator"]),
        (factory_of_a_lambda, ["direct"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_shape_is_told_by_its_signature(handler: Any, expected: list[str]) -> None:
    assert await said(handler) == expected


class Handlers:
    """The shapes as methods."""

    word = "method"

    def factory(self, c: Context) -> Callable[[Stream], Any]:
        async def handler(stream: Stream) -> None:
            await stream.write(self.word)

        return handler

    async def direct(self, c: Context, stream: Stream) -> None:
        await stream.write(self.word)

    async def generator(self, c: Context) -> AsyncIterator[str]:
        yield self.word

    def sync_generator(self, c: Context) -> Iterator[str]:
        yield self.word

    @staticmethod
    async def static(c: Context, stream: Stream) -> None:
        await stream.write("method")

    @classmethod
    async def of_class(cls, c: Context, stream: Stream) -> None:
        await stream.write(cls.word)


@pytest.mark.parametrize("name", ["factory", "direct", "generator", "sync_generator", "static", "of_class"])
async def test_a_bound_method_is_a_handler(name: str) -> None:
    assert await said(getattr(Handlers(), name)) == ["method"]


class DirectObject:
    async def __call__(self, c: Context, stream: Stream) -> None:
        await stream.write("object")


class FactoryObject:
    def __call__(self, c: Context) -> Callable[[Stream], Any]:
        return functools.partial(DirectObject(), c)


class GeneratorObject:
    async def __call__(self, c: Context) -> AsyncIterator[str]:
        yield "object"


class HandlerPerRequest:
    """A class as a factory: an instance for each request, which takes the stream."""

    def __init__(self, c: Context) -> None:
        self.c = c

    async def __call__(self, stream: Stream) -> None:
        await stream.write("object")


@pytest.mark.parametrize("handler", [DirectObject(), FactoryObject(), GeneratorObject(), HandlerPerRequest])
async def test_an_object_that_can_be_called_is_a_handler(handler: Any) -> None:
    assert await said(handler) == ["object"]


async def word_first(word: str, c: Context, stream: Stream) -> None:
    await stream.write(word)


async def word_generator(c: Context, word: str) -> AsyncIterator[str]:
    yield word


@pytest.mark.parametrize(
    "handler",
    [functools.partial(word_first, "partial"), functools.partial(word_generator, word="partial")],
    ids=["by position", "by name"],
)
async def test_a_partial_is_a_handler(handler: Any) -> None:
    assert await said(handler) == ["partial"]


async def test_a_decorated_handler_is_looked_at_through_its_decorator() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    assert await said(logged(direct)) == ["direct"]
    assert await said(logged(async_generator)) == ["async", "generator"]
    assert await said(logged(factory)) == ["factory"]


async def test_a_sync_generator_runs_on_one_thread_that_is_not_the_loops() -> None:
    def threads(c: Context) -> Iterator[str]:
        for _ in range(3):
            yield str(threading.get_ident())

    seen = await said(threads)
    assert len(seen) == 3
    assert len({*seen, str(threading.get_ident())}) == 2


async def test_a_sync_generator_is_never_drained_into_a_list() -> None:
    closed = threading.Event()

    def endless(c: Context) -> Iterator[int]:
        try:
            number = 0
            while True:
                yield (number := number + 1)
        finally:
            closed.set()

    router = Router()
    router.sse("", endless)
    with served(router):
        client = connect("/")
        assert [event.data for event in await client.take(3)] == ["1", "2", "3"]
        client.leave()
        await client.over()
    assert await asyncio.to_thread(closed.wait, 60)


# The class form


class Direct(SSEView):
    async def handle(self, c: Context, stream: Stream, n: int) -> None:
        await stream.write(f"{type(self).__name__} {n} {self.kwargs['n']} {self.request is c.request}")


class Factory(SSEView):
    def handle(self, c: Context, n: int) -> Any:
        return functools.partial(Direct.handle, self, c, n=n)


class Generator(SSEView):
    async def handle(self, c: Context, n: int) -> AsyncIterator[str]:
        yield f"{type(self).__name__} {n} {self.kwargs['n']} {self.request is c.request}"


class SyncGenerator(SSEView):
    def handle(self, c: Context, n: int) -> Iterator[str]:
        yield f"{type(self).__name__} {n} {self.kwargs['n']} {self.request is c.request}"


@pytest.mark.parametrize("view", [Direct, Factory, Generator, SyncGenerator])
async def test_a_class_takes_every_shape(view: type[SSEView]) -> None:
    assert await said(view, "/7/", "<int:n>/") == [f"{view.__name__} 7 7 True"]


# Answers instead of a stream


async def test_a_factory_may_return_a_response() -> None:
    def refuse(c: Context) -> HttpResponseBase:
        return c.json({"error": "no such build"}, status=404)

    async def refuse_later(c: Context) -> HttpResponseBase:
        return HttpResponse("later", status=409)

    router = Router()
    router.sse("a/", refuse)
    router.sse("b/", refuse_later)
    answer = await ask_route(router, "/a/")
    assert (answer.status, answer.json()) == (404, {"error": "no such build"})
    assert (await ask_route(router, "/b/")).status == 409


async def test_a_factorys_own_error_is_an_ordinary_error_response() -> None:
    def missing(c: Context) -> Any:
        raise Http404

    router = Router()
    router.sse("", missing)
    assert (await ask_route(router)).status == 404


async def test_a_direct_handler_may_return_a_response_before_it_writes() -> None:
    async def refuse(c: Context, stream: Stream) -> HttpResponseBase:
        return c.text("not now", status=409)

    router = Router()
    router.sse("", refuse)
    answer = await ask_route(router)
    assert (answer.status, answer.body) == (409, b"not now")
