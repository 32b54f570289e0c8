"""``SSEView``: attributes, ``as_view()``, ``authorize``, and decorators around ``dispatch``."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.test import AsyncRequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_cookie, vary_on_headers

from django_agent_sse import Context, Router, SSEView, Stream
from django_agent_sse.exceptions import RouteError
from tests.serving import ask, ask_route, served

CSRF = "django.middleware.csrf.CsrfViewMiddleware"


class Hello(SSEView):
    """Says one word."""

    word = "hello"
    retry = 1234

    async def handle(self, c: Context, stream: Stream) -> None:
        await stream.write(self.word)


def at(view: Any) -> list[Any]:
    return [path("", view)]


async def test_its_attributes_are_the_routes() -> None:
    answer = await ask_route(at(Hello.as_view()))
    assert answer.data == ["hello"]
    assert b"retry: 1234\n" in answer.body


async def test_as_view_overrides_any_attribute() -> None:
    async def shut(c: Context) -> bool:
        return False

    assert (await ask_route(at(Hello.as_view(word="goodbye", retry=99)))).body == b"retry: 99\ndata: goodbye\n\n"
    assert (await ask_route(at(Hello.as_view(guards=[shut])))).status == 403
    assert (await ask_route(at(Hello.as_view(methods=["PUT"])))).status == 405


async def test_an_option_that_is_not_set_is_the_projects() -> None:
    class Plain(Hello):
        retry = SSEView.retry

    with served(at(Plain.as_view()), AGENT_SSE={"RETRY": 777}):
        assert b"retry: 777\n" in (await ask("/")).body


async def test_none_is_a_value_and_not_the_projects() -> None:
    with served(at(Hello.as_view(retry=None)), AGENT_SSE={"RETRY": 777}):
        assert (await ask("/")).body == b"data: hello\n\n"


async def test_each_request_has_an_instance_of_its_own() -> None:
    seen = []

    class Counting(SSEView):
        count = 0

        async def handle(self, c: Context, stream: Stream) -> None:
            self.count += 1
            seen.append(self)
            await stream.write(self.count)

    with served(at(Counting.as_view())):
        assert [(await ask("/")).data for _ in range(2)] == [["1"], ["1"]]
    assert len(set(map(id, seen))) == 2


async def test_authorize_is_asked_last_and_sees_the_view() -> None:
    asked = []

    async def guard(c: Context) -> bool:
        asked.append("guard")
        c.var.owner = "ada"
        return True

    class Mine(SSEView):
        guards = (guard,)

        async def authorize(self, c: Context) -> Any:
            asked.append(f"authorize {c.var.owner} {self.kwargs['name']}")
            return c.var.owner == self.kwargs["name"] or c.json({"error": "not yours"}, status=403)

        async def handle(self, c: Context, stream: Stream, name: str) -> None:
            await stream.write(name)

    with served([path("<slug:name>/", Mine.as_view())]):
        assert (await ask("/ada/")).data == ["ada"]
        refused = await ask("/bob/")
    assert (refused.status, refused.json()) == (403, {"error": "not yours"})
    assert asked == ["guard", "authorize ada ada", "guard", "authorize ada bob"]


async def test_an_inherited_authorize_counts_too() -> None:
    class Closed(Hello):
        async def authorize(self, c: Context) -> bool:
            return False

    class Heir(Closed):
        pass

    assert (await ask_route(at(Heir.as_view()))).status == 403


async def test_its_middleware_is_around_it_alone() -> None:
    class Translated(Hello):
        middleware = ("django.middleware.locale.LocaleMiddleware",)

    with served([path("a/", Translated.as_view()), path("b/", Hello.as_view())]):
        assert "content-language" in (await ask("/a/")).headers
        assert "content-language" not in (await ask("/b/")).headers


def test_the_view_is_a_coroutine_function_with_the_class_name_and_docstring() -> None:
    view = Hello.as_view()
    assert iscoroutinefunction(view)
    assert view.__doc__ == "Says one word."
    assert view.view_class is Hello  # type: ignore[attr-defined]


async def test_the_view_can_be_called_without_a_urlconf() -> None:
    response = await Hello.as_view()(AsyncRequestFactory().get("/somewhere/"))
    assert response.status_code == 200
    assert b"".join([part async for part in response]) == b"retry: 1234\ndata: hello\n\n"


# Decorators of Django


async def test_a_decorator_around_dispatch_sees_the_response() -> None:
    @method_decorator(vary_on_headers("X-Tenant"), name="dispatch")
    @method_decorator(never_cache, name="dispatch")
    class Varying(Hello):
        pass

    answer = await ask_route(at(Varying.as_view()))
    assert answer.headers["vary"] == "X-Tenant"
    assert "private" in answer.headers["cache-control"]
    assert answer.data == ["hello"]


async def test_a_decorator_around_an_overridden_dispatch() -> None:
    class Varying(Hello):
        @method_decorator(vary_on_cookie)
        async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return await super().dispatch(request, *args, **kwargs)

    assert (await ask_route(at(Varying.as_view()))).headers["vary"] == "Cookie"


async def test_a_decorator_around_the_view_keeps_it_a_stream() -> None:
    answer = await ask_route(at(vary_on_headers("X-Tenant")(Hello.as_view())))
    assert (answer.headers["vary"], answer.data) == ("X-Tenant", ["hello"])


# CSRF


async def test_a_post_without_a_token_is_403_and_runs_nothing() -> None:
    ran = []

    class Posted(SSEView):
        methods = ("POST",)

        async def handle(self, c: Context, stream: Stream) -> None:
            ran.append("handler")

    answer = await ask_route(at(Posted.as_view()), method="POST", middleware=[CSRF])
    assert answer.status == 403
    assert ran == []


async def test_a_post_with_a_token_passes() -> None:
    token = "a" * 32
    headers = {"Cookie": f"csrftoken={token}", "X-CSRFToken": token}
    view = Hello.as_view(methods=["POST"])
    assert (await ask_route(at(view), method="POST", headers=headers, middleware=[CSRF])).data == ["hello"]


@method_decorator(csrf_exempt, name="dispatch")
class ExemptByDjangosDecorator(Hello):
    methods = ("POST",)


class ExemptByAttribute(Hello):
    methods = ("POST",)
    csrf_exempt = True


@pytest.mark.parametrize(
    "view",
    [
        ExemptByAttribute.as_view(),
        Hello.as_view(methods=["POST"], csrf_exempt=True),
        csrf_exempt(Hello.as_view(methods=["POST"])),
        ExemptByDjangosDecorator.as_view(),
    ],
    ids=["attribute", "as_view", "decorated view", "decorated dispatch"],
)
async def test_an_exempt_view_takes_a_post_without_a_token(view: Any) -> None:
    assert (await ask_route(at(view), method="POST", middleware=[CSRF])).data == ["hello"]


async def posted(c: Context, stream: Stream) -> None:
    await stream.write(await c.json_body())


async def test_an_exempt_route_takes_a_post_without_a_token() -> None:
    router = Router()
    router.sse("closed/", posted, methods=["POST"])
    router.sse("open/", posted, methods=["POST"], csrf_exempt=True)
    about: Any = {"method": "POST", "body": b'{"a": 1}', "middleware": [CSRF]}
    assert (await ask_route(router, "/closed/", **about)).status == 403
    assert (await ask_route(router, "/open/", **about)).data == ['{"a":1}']


def test_djangos_decorator_around_a_handler_is_refused_with_the_option_that_does_it() -> None:
    with pytest.raises(RouteError, match=r"csrf_exempt=True on the route"):
        Router().sse("", csrf_exempt(posted), methods=["POST"])


def test_so_is_another_packages_decorator_that_takes_a_request() -> None:
    """As those of django-guardian, django-ratelimit and rules: it would ask the context who the user is."""

    def permitted(view: Any) -> Any:
        @wraps(view)
        def _wrapped_view(request: Any, *args: Any, **kwargs: Any) -> Any:
            return view(request, *args, **kwargs)

        return _wrapped_view

    def kept(handler: Any) -> Any:
        @wraps(handler)
        async def own(c: Context, stream: Stream) -> None:
            await handler(c, stream)

        return own

    async def named_so(request: Context, stream: Stream) -> None: ...

    with pytest.raises(RouteError, match=r"is wrapped by a decorator of tests\.views\.test_class_form, which expects a request"):
        Router().sse("", permitted(posted))
    Router().sse("", kept(posted))
    Router().sse("", named_so)
