"""What a handler knows: the request, its user, its values, its store and its logger, as ``c``."""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.request import HttpHeaders
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from ..encoding import encode_json
from ..exceptions import AgentSSEError, GuardError, HeadersSent
from ..runtime.safe_text import printable
from .body import read_json
from .client import client_of, monitor_options
from .headers import check_cookie, check_free, check_header
from .kv import KV
from .last_event_id import LastEventId
from .logger import RouteLogger
from .registry import StreamInfo
from .request_user import anonymous, loaded_user

if TYPE_CHECKING:
    # Of django-stubs: the project's own user model where its mypy plugin is used. Django itself has no such name.
    from django.contrib.auth.models import _AnyUser

_NOT_PREFIXED = HttpHeaders.UNPREFIXED_HEADERS


class Var:
    """The attributes of ``c.var``: what a guard set on it, else what middleware set on the request.

    ``kv`` and ``logger`` are the context's own and cannot be replaced. The request is not asked for names with a leading ``_``.
    """

    __slots__ = ("__dict__", "_context")
    _context: Context

    def __init__(self, context: Context) -> None:
        object.__setattr__(self, "_context", context)

    @property
    def kv(self) -> KV:
        return self._context.kv

    @property
    def logger(self) -> RouteLogger:
        return self._context.logger

    def __getattr__(self, name: str) -> Any:
        request = self._context._request
        value = empty if request is None or name.startswith("_") else getattr(request, name, empty)
        if value is not empty:
            return value
        raise AttributeError(
            f"c.var.{name} is not set: set it in a guard (c.var.{name} = …), or in a middleware (request.{name} = …)"
            f"{_RELEASED if request is None else ''}"
        )

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("kv", "logger", "_context"):
            raise AttributeError(f"c.var.{name} belongs to the stream; choose another name")
        object.__setattr__(self, name, value)


_RELEASED = "; this stream is slim and has let its request go"


@dataclass(slots=True, eq=False, repr=False)
class Context:
    """One request as its guards and its handler see it. One exists per open stream, and costs little until it is used.

    Attributes:
        params: The URL's values, converted.
        route: The route's pattern, for log lines.
        started: The response has begun; set by the stream. Headers and cookies can then no longer change.
    """

    _request: HttpRequest | None
    params: Mapping[str, object]
    route: str = field(kw_only=True)
    cache: InitVar[str] = field(kw_only=True)
    started: bool = False
    _cache: str = ""
    _client: tuple[str, str] | None = None
    _user: Any = empty
    _var: Var | None = None
    _bag: HttpResponse | None = None
    _kv: KV | None = None
    _logger: RouteLogger | None = None
    _last_event_id: LastEventId | None = None
    _on_release: Callable[[HttpRequest], object] | None = None
    _asks: tuple[Callable[[Context], Awaitable[bool | HttpResponseBase]], ...] = ()
    """What was asked about this stream beside its route's guards, and is asked again with them."""
    _topics: tuple[str, ...] = ()
    """What its client was asked about, or is being asked about: whether they may follow it."""
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self, cache: str) -> None:
        self._cache = cache

    def __repr__(self) -> str:
        return f"<Context of {self.route!r}>"

    @property
    def request(self) -> HttpRequest:
        """Django's request.

        Raises:
            AgentSSEError: The stream is slim and has let it go.
        """
        if self._request is None:
            _released("c.request")
        return self._request

    @property
    def query(self) -> QueryDict:
        """The query parameters: ``request.GET``."""
        return self.request.GET

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return a request header, by its name in any case."""
        key = name.upper().replace("-", "_")
        # request.headers would copy all of them, and the copy would stay for as long as the stream.
        value: str | None = self.request.META.get(key if key in _NOT_PREFIXED else f"HTTP_{key}", default)
        return value

    async def json_body(self, *, limit: int | None = None) -> Any:
        """Read the request's body as JSON; it can be read again.

        A body of more than 64 KiB is parsed in a thread.

        Args:
            limit: The most bytes to read, 8 MiB at most. ``DATA_UPLOAD_MAX_MEMORY_SIZE`` where not given.

        Raises:
            BodyTooLarge: It has more bytes, or more than 100,000 values and names: Python parses JSON in one step that holds up
                every other request of the process. Answered with 413.
            BodyNotJSON: Also for NaN and infinities, which JSON does not have. Answered with 400.
        """
        return await read_json(self.request, limit)

    @property
    def user(self) -> _AnyUser:
        """The request's user, loaded before the guards ran; without ``AuthenticationMiddleware`` an ``AnonymousUser``.

        ``None`` where ``django.contrib.auth`` is not installed. A guard that authenticates by itself sets it: ``c.user = …`` is
        also ``request.user``, for the guards after it, the handler and the monitor; ``None`` stands for nobody.

        Raises:
            AgentSSEError: ``load_user`` was not awaited, or the stream is slim and has let its request go.
            GuardError: What was set is not a user, or is a lazy one that was not loaded.
        """
        if self._user is empty:
            raise AgentSSEError("c.user is not loaded: await c.load_user() first (a route does so before its guards)")
        if self._request is None:
            _released("c.user", "; c.user_pk is still there")
        user: _AnyUser = getattr(self._request, "user", self._user)
        return user

    @user.setter
    def user(self, user: Any) -> None:
        if user is None:
            user = anonymous()
        while issubclass(type(user), LazyObject):  # isinstance would ask the object behind it
            if user._wrapped is empty:
                raise GuardError(
                    "c.user was set to a lazy user that is not loaded, and loading it would query a database on the event loop: "
                    "await the user first, as in c.user = await User.objects.aget(…)"
                )
            user = user._wrapped
        if user is not None and (isinstance(user, type) or not hasattr(user, "is_authenticated")):
            raise GuardError(
                f"c.user was set to {type(user).__name__} {user!r:.60}, which has no is_authenticated: set a user of the "
                "project, AnonymousUser() or None; other values go on c.var"
            )

        self._put_user(user)

    def _put_user(self, user: Any) -> None:
        """Put a user on the request, as Django's ``login()`` does, without a session. It may be of a model of the project's."""
        self._user = user

        async def auser() -> Any:
            return user

        self.request.user = user
        self.request.auser = auser

    @property
    def user_pk(self) -> Any:
        """The primary key of ``user``, ``None`` for an anonymous one; still there when a slim stream has let the user go."""
        if self._request is None:
            return None if self._user is empty else self._user
        return getattr(self.user, "pk", None)

    @property
    def _user_label(self) -> str:
        """``app.model`` of the user in lower case; ``""`` where there is no model, or the user was let go."""
        user = self._user if self._request is None else getattr(self._request, "user", None)
        return getattr(getattr(user, "_meta", None), "label_lower", "")

    def _info(self, heartbeat: float | None) -> StreamInfo:
        """Return what does not change about the stream, as far as it may be shown."""
        options, request = monitor_options(), self._request
        address, agent = client_of(request, options) if request is not None else self._client or ("", "")
        return StreamInfo(self.route, self._user_shown, address, printable(agent), heartbeat)

    @property
    def _user_shown(self) -> str:
        """The user as operators see it: the primary key as text, ``""`` for nobody."""
        key = None if self._user is empty else self.user_pk  # where it was never loaded it is nobody
        user = "" if key is None else str(key)
        if user and self._user_label not in ("", settings.AUTH_USER_MODEL.lower()):  # what a guard has put there says what it is
            user = f"{self._user_label}:{user}"
        return printable(user, 2000)

    async def load_user(self) -> None:
        """Load ``user``: afterwards neither it nor ``request.user`` queries a database.

        A request without a session cookie costs no query and no thread.
        """
        given, user = await loaded_user(self.request)
        if user is not given:
            self._put_user(user)
        self._user = user

    @property
    def var(self) -> Var:
        """Values that guards and middleware hand to the handler, as attributes."""
        if self._var is None:
            self._var = Var(self)
        return self._var

    @property
    def last_event_id(self) -> str | None:
        """The last id that the client got, without ``sse.end~``; ``None`` when it sent none that can be used."""
        return self._position.value

    @property
    def ended(self) -> bool:
        """The client had the whole stream already and came back only because an ``EventSource`` always does."""
        return self._position.ended

    @property
    def _position(self) -> LastEventId:
        """What the client sent as its last id, and whether it can be used."""
        if self._last_event_id is None:
            self._last_event_id = LastEventId.of(self.request)
        return self._last_event_id

    def _go_on_after(self, id: str | None) -> None:
        """Take this for what the client sent as its last id."""
        self._last_event_id = LastEventId(value=id)

    def _asked_again(self, request: HttpRequest, user: Any) -> Context:
        """Return a context in which guards are asked again: of this request, by whoever that is now."""
        again = Context(request, self.params, route=self.route, cache=self._cache)
        again._user, again._last_event_id = user, self._position if self._request is not None else self._last_event_id
        return again

    def _for_task(self) -> Context:
        """Return a context of the same request for work that outlives it. Its headers go to ``_take_headers`` of this one."""
        return copy.copy(self)

    def _take_headers(self, other: Context) -> None:
        """Answer with the headers of that context too, which can change no more."""
        self._bag, other._bag, other.started = other._bag, None, True

    @property
    def kv(self) -> KV:
        """The key-value store in the route's cache."""
        if self._kv is None:
            self._kv = KV(self._cache)
        return self._kv

    @property
    def logger(self) -> RouteLogger:
        """A logger whose records carry ``route``."""
        if self._logger is None:
            self._logger = RouteLogger({"route": self.route})
        return self._logger

    def json(self, obj: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
        """Return a JSON answer instead of a stream; ``headers`` come after those of ``set_header``."""
        return self._answer(encode_json(obj), "application/json", status, headers)

    def text(self, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
        """Return a plain text answer instead of a stream; ``headers`` come after those of ``set_header``."""
        return self._answer(text, "text/plain; charset=utf-8", status, headers)

    def set_header(self, name: str, value: str) -> None:
        """Keep a header for the response.

        Raises:
            HeadersSent: The response has begun.
            StreamError: The header is one that the stream or the server sets itself, or the name or value is none that HTTP has.
            BadHeaderError: The name or value holds a line break (Django's own error).
        """
        bag = self._headers_bag("set_header")
        check_header(name, value)
        check_free(name)
        bag.headers[name] = value

    def set_cookie(self, key: str, value: str = "", **options: Any) -> None:
        """Keep a cookie for the response; options as in ``HttpResponse.set_cookie``.

        Raises:
            HeadersSent: The response has begun.
            StreamError: An option, such as ``path``, holds a control character or ``;``.
        """
        check_cookie(options)
        self._headers_bag("set_cookie").set_cookie(key, value, **options)

    def apply_headers(self, response: HttpResponseBase) -> None:
        """Put what ``set_header`` and ``set_cookie`` kept on a response. ``json`` and ``text`` have done so already."""
        if self._bag is not None:
            for name, value in self._bag.headers.items():
                response.headers[name] = value
            response.cookies.update(self._bag.cookies)

    def release(self) -> None:
        """Let the request go, with its session, META and user. The last event id, ``user_pk`` and what guards set stay."""
        if self._request is not None:
            _ = self._position
            if self._on_release is not None:
                self._on_release(self._request)
            self._client = client_of(self._request, monitor_options())
            self._user = None if self._user is empty else self.user_pk
            self._request = None

    def _answer(self, body: str, content_type: str, status: int, headers: Mapping[str, str] | None) -> HttpResponse:
        response = HttpResponse(body, content_type=content_type, status=status)
        self.apply_headers(response)
        for name, value in (headers or {}).items():
            check_header(name, value)
            response.headers[name] = value
        return response

    def _headers_bag(self, verb: str) -> HttpResponse:
        if self.started:
            raise HeadersSent(f"c.{verb}() is too late, the response has begun: call it in a guard or before the first write")
        if self._bag is None:
            self._bag = HttpResponse()
            del self._bag.headers["Content-Type"]
        return self._bag


def route_of(request: HttpRequest) -> str:
    """Return what log lines and counters call the route of a request."""
    match = request.resolver_match
    return match.route if match else printable(request.path)


def _released(what: str, instead: str = "") -> NoReturn:
    raise AgentSSEError(f"{what} is gone{_RELEASED}{instead}; read it before the stream starts, or take slim=True off the route")
