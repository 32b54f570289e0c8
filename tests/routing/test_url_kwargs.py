"""What the URL captures reaches the handler by name, and is always in ``c.params``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.urls import include, path

from django_agent_sse import Context, Router, SSEView, Stream
from tests.serving import ask_route

ROUTE, URL = "builds/<int:build_id>/<slug:name>/", "/builds/7/logs/"


async def said(handler: Any, route: str = ROUTE, url: str = URL) -> list[str]:
    router = Router()
    router.sse(route, handler)
    answer = await ask_route(router, url)
    assert answer.status == 200
    return answer.data


async def by_name(c: Context, stream: Stream, build_id: int, name: str) -> None:
    await stream.write(f"{build_id!r} {name}")


async def in_another_order(c: Context, stream: Stream, name: str, build_id: int) -> None:
    await stream.write(f"{build_id!r} {name}")


async def keyword_only(c: Context, stream: Stream, *, build_id: int, name: str) -> None:
    await stream.write(f"{build_id!r} {name}")


async def all_the_rest(c: Context, stream: Stream, **kwargs: Any) -> None:
    await stream.write(f"{kwargs['build_id']!r} {kwargs['name']}")


async def one_and_the_rest(c: Context, stream: Stream, name: str, **kwargs: Any) -> None:
    await stream.write(f"{kwargs['build_id']!r} {name}")


async def one_only(c: Context, stream: Stream, build_id: int) -> None:
    await stream.write(f"{build_id!r} {c.params['name']}")


async def none(c: Context, stream: Stream) -> None:
    await stream.write(f"{c.params['build_id']!r} {c.params['name']}")


async def with_a_default_that_the_url_does_not_know(c: Context, stream: Stream, build_id: int, tail: int = 0) -> None:
    await stream.write(f"{build_id + tail!r} {c.params['name']}")


async def context_and_stream_positional_only(c: Context, stream: Stream, /, build_id: int, name: str) -> None:
    await stream.write(f"{build_id!r} {name}")


async def all_positional_only(c: Context, stream: Stream, build_id: int, name: str, /) -> None:
    await stream.write(f"{build_id!r} {name}")


def factory(c: Context, build_id: int, name: str) -> Any:
    async def handler(stream: Stream) -> None:
        await stream.write(f"{build_id!r} {name}")

    return handler


def factory_keyword_only(c: Context, *, build_id: int, name: str) -> Any:
    return factory(c, build_id, name)


def factory_positional_only(c: Context, build_id: int, name: str, /) -> Any:
    return factory(c, build_id, name)


def factory_all_the_rest(c: Context, **kwargs: Any) -> Any:
    return factory(c, **kwargs)


async def async_factory(c: Context, name: str, build_id: int) -> Any:
    return factory(c, build_id, name)


async def generator(c: Context, build_id: int, name: str) -> AsyncIterator[str]:
    yield f"{build_id!r} {name}"


def sync_generator(c: Context, build_id: int, name: str) -> Iterator[str]:
    yield f"{build_id!r} {name}"


def sync_generator_all_the_rest(c: Context, **kwargs: Any) -> Iterator[str]:
    yield f"{kwargs['build_id']!r} {kwargs['name']}"


HANDLERS = [
    by_name,
    in_another_order,
    keyword_only,
    all_the_rest,
    one_and_the_rest,
    one_only,
    none,
    with_a_default_that_the_url_does_not_know,
    context_and_stream_positional_only,
    all_positional_only,
    factory,
    factory_keyword_only,
    factory_positional_only,
    factory_all_the_rest,
    async_factory,
    generator,
    sync_generator,
    sync_generator_all_the_rest,
]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
async def test_c01_url_values_reach_the_handler(handler: Any) -> None:
    assert await said(handler) == ["7 logs"]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
async def test_c01_values_that_an_include_captures_reach_it_too(handler: Any) -> None:
    """Nothing at the route itself tells which names come from around it."""
    router = Router()
    router.sse("", handler)
    assert (await ask_route([path(ROUTE, include(router.urls))], URL)).data == ["7 logs"]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
async def test_c01_some_values_from_an_include_and_some_from_the_route(handler: Any) -> None:
    inner, outer = Router(), Router()
    inner.sse("<slug:name>/", handler)
    outer.include(inner, prefix="builds/<int:build_id>/")
    assert (await ask_route(outer, URL)).data == ["7 logs"]


async def test_a_value_named_stream_is_the_urls() -> None:
    """Told apart by what the URL captures, not by the name alone."""

    def handler(c: Context, stream: str) -> Any:
        async def write(out: Stream) -> None:
            await out.write(f"{stream} {c.params['stream']}")

        return write

    assert await said(handler, "streams/<slug:stream>/", "/streams/north/") == ["north north"]


async def test_a_value_named_like_the_context_is_in_params() -> None:
    async def with_kwargs(c: Context, stream: Stream, **kwargs: Any) -> None:
        await stream.write(f"{c.params['c']} {kwargs.get('n')}")

    async def without(c: Context, stream: Stream) -> None:
        await stream.write(c.params["c"])

    assert await said(without, "<slug:c>/", "/x/") == ["x"]
    assert await said(with_kwargs, "<slug:c>/<int:n>/", "/x/3/") == ["x 3"]


async def test_a_view_gets_them_in_the_same_way() -> None:
    class Log(SSEView):
        async def handle(self, c: Context, stream: Stream, build_id: int, **kwargs: Any) -> None:
            await stream.write(f"{build_id!r} {kwargs['name']} {c.params == self.kwargs}")

    routes = [path(ROUTE, Log.as_view())]
    assert (await ask_route(routes, URL)).data == ["7 logs True"]


async def test_values_that_path_adds_are_url_values_too() -> None:
    class Log(SSEView):
        async def handle(self, c: Context, stream: Stream, kind: str) -> None:
            await stream.write(kind)

    assert (await ask_route([path("", Log.as_view(), {"kind": "extra"})])).data == ["extra"]
