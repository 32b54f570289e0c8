"""Guards: who may open a stream. An async check of one request, before anything is sent.

A guard is ``async (c) -> True | False | HttpResponse``. ``True`` lets the request through, ``False`` answers 403, a response is
the answer. ``None`` is an error: a forgotten ``return`` must not open a door. The guards below answer JSON with 401 or 403 and
never redirect, because an ``EventSource`` would follow to a login page.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hmac import compare_digest
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from .exceptions import GuardError, RouteError
from .streams.context import Context
from .streams.error_responses import error_body
from .streams.headers import HEADER_NAME

Guard: TypeAlias = Callable[[Context], Awaitable["bool | HttpResponseBase"]]
"""The type of a guard, for annotations."""
KeyLookup: TypeAlias = Callable[[str], Any]

SESSION_CHALLENGE = 'Session realm="django"'
API_KEY_CHALLENGE = 'ApiKey realm="django"'
NO_PERMISSION = "this needs a permission that you do not have"


async def login_required(c: Context) -> bool | HttpResponseBase:
    """Let signed-in users through; 401 for everybody else."""
    return signed_in(c.user) or refused(c, "forbidden")


async def staff_required(c: Context) -> bool | HttpResponseBase:
    """Let active staff through, as Django's admin does; 401 for anonymous users, 403 for other ones."""
    user: Any = c.user
    is_staff = bool(getattr(user, "is_active", False) and getattr(user, "is_staff", False))
    return (signed_in(user) and is_staff) or refused(c, "only staff may open this stream")


def permission_required(*permissions: str, obj: Callable[[Context], Any] | None = None) -> Guard:
    """Make a guard that wants all of these permissions; 401 for anonymous users without them, 403 for other ones.

    Args:
        *permissions: ``"app_label.codename"``, as in Django's ``has_perm``.
        obj: ``(c) -> object``, sync or ``async``: who has not the permissions for all objects may have them for this one, as the
            back ends in ``AUTHENTICATION_BACKENDS`` know. ``None`` is nobody's; ``Http404`` is answered.

    Raises:
        RouteError: There is none, or one has another form.
    """
    if not permissions:
        raise RouteError('permission_required() wants at least one permission: permission_required("builds.view_build")')
    for permission in permissions:
        if not isinstance(permission, str) or not all(permission.partition(".")):
            raise RouteError(f'permission_required({permission!r}): a permission reads "app_label.codename"')

    if obj is not None and not callable(obj):
        raise RouteError(f"permission_required(obj={obj!r:.80}): a function (c) that returns the object")
    find = None if obj is None else obj if _is_async(obj) else sync_to_async(obj)

    async def guard(c: Context) -> bool | HttpResponseBase:
        user: Any = c.user
        found = None if find is None or user is None else await find(c)
        anything = user is not None and (find is None or found is not None)
        allowed = anything and await sync_to_async(has_permissions)(user, permissions, found)
        return allowed or refused(c, NO_PERMISSION)

    return named(guard, f"permission_required({', '.join(map(repr, permissions))})")


def api_key(keys: str | Iterable[str] | Mapping[str, object] | KeyLookup, *, header: str = "X-API-Key") -> Guard:
    """Make a guard that wants a key in a header; 401 without one that is known.

    The key is read from ``header``, else from ``Authorization: ApiKey <key>`` or ``Authorization: Bearer <key>``, the one place
    that many clients can fill. Never from the URL, which is logged. Its owner is handed on as ``c.var.api_key_owner``.

    Args:
        keys: One key; several; a mapping of keys to owners; or a function of the key that returns its owner, or something
            false to refuse it. A plain function runs in a thread and may use the ORM, an ``async`` one is awaited. Given
            keys are compared in constant time, and the owner of a key without one is ``True``.
        header: The name of the header.

    Raises:
        RouteError: There is no key, a key is empty or has white space around it, or ``header`` is no name of a header.
    """
    if not isinstance(header, str) or not HEADER_NAME.fullmatch(header):
        raise RouteError(f"api_key(header={header!r}): that is not the name of a header")
    owner_of = _lookup(keys) if callable(keys) else _comparison(keys)

    async def guard(c: Context) -> bool | HttpResponseBase:
        key = _key_sent(c, header)
        if not key:
            return unauthorized(c, "API key required", API_KEY_CHALLENGE)
        owner = await owner_of(key)
        if not owner:
            return unauthorized(c, "API key not known", API_KEY_CHALLENGE)
        c.var.api_key_owner = owner
        return True

    return named(guard, f"api_key(header={header!r})")


def check_guards(guards: Iterable[object]) -> tuple[Guard, ...]:
    """Return the guards of a route, checked while its URLconf is imported; ``RouteError`` where one is not ``async (c)``."""
    return tuple(_checked(guard) for guard in as_tuple("guards", guards))


def as_tuple(what: str, given: Any) -> tuple[Any, ...]:
    """Return guards or middleware as a tuple; ``RouteError`` for one of them, or for text, which would be a list of letters."""
    if isinstance(given, str | bytes | Mapping) or callable(given) or not isinstance(given, Iterable):
        raise RouteError(f"{what} must be given as a list: {what}=[{name_of(given)}]")
    return tuple(given)


async def run_guards(guards: Iterable[Guard], c: Context) -> HttpResponseBase | None:
    """Ask the guards in order until one refuses, and return the refusal; ``None`` where every guard let the request through.

    Raises:
        GuardError: A guard returned something else than ``True``, ``False`` or a response. The request is refused.
    """
    for guard in guards:
        verdict = await guard(c)
        if verdict is True:
            continue
        if verdict is False:
            return forbidden(c, "forbidden")
        if isinstance(verdict, HttpResponseBase):
            return verdict
        if verdict is None:
            fault = (
                "None, and a forgotten return must not open a door: return True to let the request through, False for 403, or a "
                "response such as c.json(…, status=401)"
            )
        else:
            fault = f"{type(verdict).__name__}; return True, False or a response (bool(…) makes one of a value)"
        raise GuardError(f"guard {name_of(guard)} returned {fault}")
    return None


def _checked(guard: object) -> Guard:
    name = name_of(guard)
    if guard is permission_required or guard is api_key:
        raise RouteError(f"{name} makes a guard: call it, as in guards=[{name}(…)]")
    if isinstance(guard, type):
        raise RouteError(
            f"{name} is a class; a guard is async (c): pass an instance with async __call__, or put middleware in middleware=[…]"
        )
    if not callable(guard):
        raise RouteError(f"{name} cannot be called; a guard is async (c) -> True | False | response")
    module = str(getattr(guard, "__module__", ""))
    if module.startswith("django.") and not _is_async(guard):
        raise RouteError(f"{name} is a view decorator of Django ({module}); take the guard of django_agent_sse.guards")
    if inspect.isasyncgenfunction(guard) or not _is_async(guard):
        raise RouteError(
            f"guard {name} is not async; write async def {getattr(guard, '__name__', 'guard')}(c) and return True or False"
        )
    try:
        inspect.signature(guard).bind(None)
    except TypeError as error:
        raise RouteError(f"guard {name} is called with one argument, the context c: {error}") from error
    return guard


def _lookup(keys: KeyLookup) -> Callable[[str], Awaitable[object]]:
    if _is_async(keys):
        return keys
    in_thread = sync_to_async(keys)

    async def lookup(key: str) -> object:
        owner = await in_thread(key)
        return await owner if inspect.isawaitable(owner) else owner

    return lookup


def _comparison(keys: str | Iterable[str] | Mapping[str, object]) -> Callable[[str], Awaitable[object]]:
    if not isinstance(keys, Iterable):
        raise RouteError(
            f"api_key() takes a key, a list of keys, a dict of keys and owners, or a function, not {type(keys).__name__}: "
            "is a setting missing?"
        )
    owners = keys if isinstance(keys, Mapping) else dict.fromkeys([keys] if isinstance(keys, str) else keys, True)
    for key in owners:
        if not isinstance(key, str) or not key or key != key.strip():
            raise RouteError("api_key(): each key is a str, not empty and without white space around it")
    if not owners:
        raise RouteError("api_key() was given no keys and would refuse everybody: is a setting empty?")
    known = [(_digest(key), owner) for key, owner in owners.items()]

    async def lookup(key: str) -> object:
        sent = _digest(key)
        # All of them are compared, also after one that fits: the time tells nothing about which key it was.
        known_owner: object = None
        for digest, owner in known:
            if compare_digest(sent, digest):
                known_owner = owner
        return known_owner

    return lookup


def _digest(key: str) -> bytes:
    """Return a digest, as long for every key, so that the time of a comparison tells nothing about a key's length."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _key_sent(c: Context, header: str) -> str:
    sent = c.header(header, "") or ""
    if not sent:
        scheme, _, credentials = (c.header("Authorization", "") or "").partition(" ")
        sent = credentials if scheme.lower() in ("apikey", "bearer") else ""
    try:
        return sent.strip().encode("latin-1").decode("utf-8")
    except UnicodeError:
        return ""


def has_permissions(user: Any, permissions: tuple[str, ...], obj: object = None) -> bool:
    """Whether a user has all of these permissions, for all objects or for this one; blocks.

    Django's async twins are not asked: they pass over what a user or a back end of the project has only in ``has_perm()``, and
    would grant what that refuses.
    """
    check = getattr(user, "has_perms", None)
    return check is not None and bool(check(permissions) or (obj is not None and check(permissions, obj)))


def signed_in(user: Any) -> bool:
    answer = getattr(user, "is_authenticated", False)
    return not callable(answer) and bool(answer)


def unauthorized(c: Context, why: str, challenge: str) -> HttpResponse:
    return c.json(error_body(401, why), status=401, headers={"WWW-Authenticate": challenge})


def refused(c: Context, why: str) -> HttpResponse:
    """Answer 401 to who is not signed in, and 403 with the reason to other users."""
    return forbidden(c, why) if signed_in(c.user) else unauthorized(c, "authentication required", SESSION_CHALLENGE)


def forbidden(c: Context, why: str) -> HttpResponse:
    return c.json(error_body(403, why), status=403)


def _is_async(function: Any) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(function.__call__)


def name_of(entry: object) -> str:
    """Return what an error calls a guard or a middleware."""
    return str(getattr(entry, "__qualname__", None) or repr(entry))


def named(guard: Guard, name: str) -> Guard:
    guard.__qualname__ = name
    return guard
