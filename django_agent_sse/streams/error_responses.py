"""Answers instead of a stream, in the one shape that programs read: ``{"error": {"type": "not_found", "message": "…"}}``.

Who asks for HTML by name gets the project's own error pages.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template import Engine
from django.utils.module_loading import import_string

from ..encoding import encode_json
from ..runtime.safe_text import printable

logger = logging.getLogger("django_agent_sse.stream")

Hook = Callable[..., Awaitable[Any]]

TYPES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    410: "gone",
    413: "content_too_large",
    422: "unprocessable_content",
    429: "too_many_requests",
    500: "internal_server_error",
    503: "overloaded",
}
"""What ``type`` is, by the status."""
MESSAGES: Final[Mapping[int, str]] = {
    400: "the server does not understand the request",
    403: "forbidden",
    404: "there is no such stream",
    500: "the server failed before the stream began",
}
"""What ``message`` is where an exception is the reason: its own words are for ``DEBUG`` only."""
JSON: Final = "application/json"
_WORDS = 1000
ACCEPT_LOOKED_AT: Final = 1_000
"""Characters of an ``Accept`` header that are looked at; those of browsers have fewer than 300."""


def error_body(status: int, message: str, **more: object) -> dict[str, object]:
    return {"error": {"type": TYPES.get(status, "error"), "message": message, **more}}


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A refusal, where there is no context whose headers it should have."""
    return HttpResponse(encode_json(error_body(status, message)), status=status, content_type=JSON, headers=dict(headers or {}))


def accepts(request: HttpRequest, *types: str) -> bool:
    """Whether the ``Accept`` header names one of these media types; of a long one the beginning is looked at."""
    accept: str = request.META.get("HTTP_ACCEPT", "")[:ACCEPT_LOOKED_AT]
    return any(part.partition(";")[0].strip().lower() in types for part in accept.split(","))


def wants_html(request: HttpRequest) -> bool:
    """Whether HTML is asked for by name, as a browser's address bar does; ``*/*`` names nothing."""
    return accepts(request, "text/html", "application/xhtml+xml")


def answering(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Django's ``convert_exception_to_response``, with an answer that a program can read where no HTML is asked for."""
    if iscoroutinefunction(get_response):

        @functools.wraps(get_response)
        async def inner(request: HttpRequest) -> Any:
            try:
                return await get_response(request)
            except Exception as error:
                return await _answer(request, error)

        return inner

    @functools.wraps(get_response)
    def inner_sync(request: HttpRequest) -> Any:
        try:
            return get_response(request)
        except Exception as error:
            return _readable(request, error, response_for_exception(request, error))

    return inner_sync


async def answer_error(request: HttpRequest, error: Exception) -> HttpResponseBase:
    """The answer to what a view has raised, made as Django makes it; called while it is handled.

    ``process_exception`` of the project's middleware is asked; the signal, the log lines and the project's error handlers are
    Django's own work. Only a page in HTML is then replaced.
    """
    for hook in exception_hooks(tuple(settings.MIDDLEWARE)):
        if response := await hook(request, error):
            return cast(HttpResponseBase, response)
    return await _answer(request, error)


async def _answer(request: HttpRequest, error: Exception) -> HttpResponseBase:
    response = await sync_to_async(response_for_exception, thread_sensitive=False)(request, error)
    return _readable(request, error, response)


def _readable(request: HttpRequest, error: Exception, response: HttpResponseBase) -> HttpResponseBase:
    """Django's response to an error, as JSON where that is a page and nobody asked for one; with its headers and cookies."""
    page = response.headers.get("Content-Type", "").startswith(("text/html", "text/plain" if settings.DEBUG else "text/html"))
    if wants_html(request) or not page or not isinstance(response, HttpResponse):
        return response
    status = response.status_code
    message = MESSAGES.get(status, response.reason_phrase)
    if settings.DEBUG:
        message = printable(f"{type(error).__name__}: {error}", _WORDS)
    response.content = encode_json(error_body(status, message)).encode()
    response.headers["Content-Type"] = JSON
    return response


@functools.lru_cache(maxsize=8)
def exception_hooks(middleware: tuple[str, ...]) -> tuple[Hook, ...]:
    """The ``process_exception`` of these, the innermost first, as Django asks them.

    A view cannot reach the instances that serve its request; these are others of the same classes, as each handler has its own.
    """
    classes = [import_string(path) for path in reversed(middleware)]
    hooks = []
    for layer in classes:
        if isinstance(layer, type) and hasattr(layer, "process_exception"):
            with contextlib.suppress(MiddlewareNotUsed):
                hooks.append(as_async(layer(lambda request: None).process_exception))  # asked for its hook only
    return tuple(hooks)


def as_async(function: Callable[..., Any]) -> Hook:
    """A hook of a middleware, sync or async, as one that can be awaited."""
    return function if iscoroutinefunction(function) else sync_to_async(function)


def wsgi_response(request: HttpRequest) -> HttpResponse:
    """Under WSGI a stream would send nothing before its end: the log says why there is none, and so does the answer."""
    why = (
        "this project is served by WSGI, and streams need ASGI: run an ASGI server, such as "
        f"`uvicorn {_asgi_module()}`; for runserver install daphne and put 'daphne' first in INSTALLED_APPS"
    )
    logger.error("%s cannot be streamed: %s", printable(request.path), why, extra={"request": request, "status_code": 500})
    if wants_html(request):
        # Not the project's engine, which may have no such templates.
        libraries = {"i18n": "django.templatetags.i18n"}
        engine = Engine(dirs=[str(Path(__file__).parents[1] / "templates")], libraries=libraries)
        response = HttpResponse(engine.render_to_string("django_agent_sse/wsgi.html", {"asgi": _asgi_module()}), status=500)
    else:
        response = error_response(500, why)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django would add a line that says less
    return response


def _asgi_module() -> str:
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path:  # beside the URLconf, which may be in no package
        path = ".".join([*settings.ROOT_URLCONF.split(".")[:-1], "asgi.application"])
    module, _, name = path.rpartition(".")
    return f"{module}:{name}"
