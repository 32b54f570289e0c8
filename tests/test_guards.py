"""Guards: a request gets through, or gets an answer; a mistake in a guard refuses."""

from __future__ import annotations

import functools
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth import decorators, get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncRequestFactory
from django.utils.functional import SimpleLazyObject

from django_agent_sse import Router, Stream
from django_agent_sse.exceptions import AgentSSEError, GuardError, RouteError
from django_agent_sse.guards import (
    api_key,
    check_guards,
    login_required,
    permission_required,
    run_guards,
    signed_in,
    staff_required,
)
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.error_responses import TYPES
from django_agent_sse.streams.registry import open_streams
from tests.ids import plain
from tests.serving import ask, ask_route, served

SESSIONS = (
    "sessions.middleware.SessionMiddleware",
    "auth.middleware.AuthenticationMiddleware",
    "auth.middleware.LoginRequiredMiddleware",
)


async def context_for(user: Any = None, **headers: str) -> Context:
    """The context of a request as a route hands it to guards: with its user loaded."""
    request = AsyncRequestFactory().get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})
    if user is not None:
        request.user = user
    c = Context(request, {}, route="test", cache="default")
    await c.load_user()
    return c


def member(**flags: bool) -> Any:
    return get_user_model()(pk=1, username="ada", **flags)


async def answer_of(guard: Any, c: Context) -> tuple[int, str] | None:
    """What ``run_guards`` answers, as status and error; ``None`` for a request that gets through."""
    (checked,) = check_guards([guard])
    response = await run_guards([checked], c)
    if response is None:
        return None
    assert response["Content-Type"] == "application/json"
    assert not response.has_header("Location")
    assert response.has_header("WWW-Authenticate") == (response.status_code == 401)
    assert isinstance(response, HttpResponse)
    error = json.loads(response.content)["error"]
    assert error["type"] == TYPES[response.status_code]
    return response.status_code, error["message"]


# run_guards


async def test_c05_any_number_of_guards_run_in_order_until_one_answers() -> None:
    asked = []

    def guard(name: str, verdict: object) -> Any:
        async def guard(c: Context) -> Any:
            asked.append(name)
            return verdict

        return guard

    c = await context_for()
    refusal = c.json({"error": "later"}, status=429)
    guards = check_guards([guard("one", True), guard("two", True), guard("three", refusal), guard("four", True)])
    assert await run_guards(guards, c) is refusal
    assert asked == ["one", "two", "three"]
    assert await run_guards(guards[:2], c) is None
    assert await run_guards([], c) is None


async def test_c05_false_is_a_403() -> None:
    async def closed(c: Context) -> bool:
        return False

    assert await answer_of(closed, await context_for()) == (403, "forbidden")


async def test_a_guard_may_answer_with_any_response() -> None:
    response = StreamingHttpResponse(iter([b"busy"]), status=503)

    async def guard(c: Context) -> Any:
        return response

    assert await run_guards(check_guards([guard]), await context_for()) is response


async def test_a_forgotten_return_does_not_open_a_door() -> None:
    async def forgetful(c: Context) -> Any:
        bool(c.header("X-API-Key"))

    with pytest.raises(GuardError, match=r"forgetful returned None, and a forgotten return must not open a door: return True"):
        await run_guards(check_guards([forgetful]), await context_for())


@pytest.mark.parametrize("verdict", [1, 0, "yes", "", [], object()], ids=plain)
async def test_a_verdict_that_is_neither_yes_nor_no_is_refused(verdict: object) -> None:
    async def vague(c: Context) -> Any:
        return verdict

    with pytest.raises(GuardError, match=r"vague returned .*; return True, False or a response \(bool"):
        await run_guards(check_guards([vague]), await context_for())


async def test_what_a_guard_raises_is_djangos_to_answer() -> None:
    async def denied(c: Context) -> bool:
        raise PermissionDenied

    with pytest.raises(PermissionDenied):
        await run_guards(check_guards([denied]), await context_for())


async def test_c05_a_value_that_a_guard_sets_is_seen_by_the_next_and_the_handler() -> None:
    async def first(c: Context) -> bool:
        c.var.tenant = "acme"
        return True

    async def second(c: Context) -> bool:
        return bool(c.var.tenant == "acme")

    c = await context_for()
    assert await run_guards(check_guards([first, second]), c) is None
    assert c.var.tenant == "acme"


# check_guards


class GuardObject:
    async def __call__(self, c: Context) -> bool:
        return True

    async def method(self, c: Context) -> bool:
        return True


async def with_option(option: str, c: Context) -> bool:
    return option == "yes"


async def test_functions_methods_partials_and_instances_are_guards() -> None:
    guards = check_guards(
        [login_required, GuardObject(), GuardObject().method, functools.partial(with_option, "yes"), api_key("k")]
    )
    assert len(guards) == 5
    assert await run_guards(guards[1:4], await context_for()) is None
    assert check_guards(()) == ()
    assert len(check_guards(guard for guard in guards)) == 5


def sync_guard(c: Context) -> bool:
    return True


async def no_argument() -> bool:
    return True


async def two_arguments(c: Context, stream: object) -> bool:
    return True


async def generator(c: Context) -> Any:
    yield True


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (sync_guard, r"guard sync_guard is not async; write async def sync_guard\(c\)"),
        (lambda c: True, r"is not async; write async def"),
        (generator, "generator is not async"),
        (no_argument, "called with one argument, the context c"),
        (two_arguments, "called with one argument, the context c: missing a required argument: 'stream'"),
        (GuardObject, r"GuardObject is a class; .* pass an instance"),
        (AuthenticationMiddleware, r"put middleware in middleware=\[…\]"),
        (
            decorators.login_required,
            r"login_required is a view decorator of Django .*; take the guard of django_agent_sse.guards",
        ),
        (decorators.permission_required("auth.add_user"), "is a view decorator of Django"),
        (decorators.user_passes_test(lambda user: True), "is a view decorator of Django"),
        (staff_member_required, "is a view decorator of Django"),
        (permission_required, r"permission_required makes a guard: call it, as in guards=\[permission_required\(…\)\]"),
        (api_key, r"api_key makes a guard: call it"),
        (True, "True cannot be called"),
        ("login_required", "'login_required' cannot be called"),
    ],
    ids=plain,
)
def test_c05_what_is_no_guard_is_refused_at_import_with_a_hint(wrong: Any, hint: str) -> None:
    with pytest.raises(RouteError, match=hint):
        check_guards([wrong])


@pytest.mark.parametrize("wrong", [login_required, "login_required", None, 5])
def test_guards_are_given_as_a_list(wrong: Any) -> None:
    with pytest.raises(RouteError, match=r"given as a list: guards=\["):
        check_guards(wrong)


# login_required, staff_required


async def test_login_required() -> None:
    assert await answer_of(login_required, await context_for()) == (401, "authentication required")
    assert await answer_of(login_required, await context_for(AnonymousUser())) == (401, "authentication required")
    assert await answer_of(login_required, await context_for(member())) is None


async def test_without_django_contrib_auth_nobody_is_signed_in(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.auth"]
    c = await context_for()
    for guard in (login_required, staff_required, permission_required("a.b")):
        assert await answer_of(guard, c) == (401, "authentication required")


async def test_an_is_authenticated_that_is_a_method_opens_no_door() -> None:
    class Old:
        def is_authenticated(self) -> bool:
            return False

    assert await answer_of(login_required, await context_for(Old())) == (401, "authentication required")


async def test_staff_required() -> None:
    assert await answer_of(staff_required, await context_for()) == (401, "authentication required")
    refused = (403, "only staff may open this stream")
    assert await answer_of(staff_required, await context_for(member())) == refused
    assert await answer_of(staff_required, await context_for(member(is_staff=True, is_active=False))) == refused
    assert await answer_of(staff_required, await context_for(SimpleNamespace(is_authenticated=True))) == refused
    assert await answer_of(staff_required, await context_for(member(is_staff=True))) is None


# permission_required


async def user_with(*codenames: str, group: bool = False) -> Any:
    user = await get_user_model().objects.acreate(username="ada")
    content_type = await ContentType.objects.aget(app_label="auth", model="user")
    permissions = [
        permission async for permission in Permission.objects.filter(content_type=content_type, codename__in=codenames)
    ]
    if group:
        owner = await Group.objects.acreate(name="builders")
        await owner.permissions.aset(permissions)
        await user.groups.aadd(owner)
    else:
        await user.user_permissions.aset(permissions)
    return await get_user_model().objects.aget(pk=user.pk)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("group", [False, True])
async def test_permission_required_wants_all_of_them(group: bool) -> None:
    c = await context_for(await user_with("add_user", "view_user", group=group))
    assert await answer_of(permission_required("auth.view_user"), c) is None
    assert await answer_of(permission_required("auth.view_user", "auth.add_user"), c) is None
    refused = (403, "this needs a permission that you do not have")
    assert await answer_of(permission_required("auth.view_user", "auth.delete_user"), c) == refused


@pytest.mark.django_db(transaction=True)
async def test_permission_required_answers_401_to_anonymous_users() -> None:
    assert await answer_of(permission_required("auth.view_user"), await context_for()) == (401, "authentication required")


async def test_a_superuser_has_every_permission_without_a_query() -> None:
    assert await answer_of(permission_required("auth.view_user"), await context_for(member(is_superuser=True))) is None


@pytest.mark.django_db(transaction=True)
async def test_an_inactive_user_has_no_permission() -> None:
    c = await context_for(member(is_superuser=True, is_active=False))
    assert await answer_of(permission_required("auth.view_user"), c) == (403, "this needs a permission that you do not have")


class SyncOnlyBackend:
    """As back ends of object permission packages are: without ``ahas_perm``."""

    def has_perm(self, user: Any, permission: str, obj: object = None) -> bool:
        return permission == "builds.view_build"


async def test_a_back_end_without_an_async_check_is_asked_too(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.SyncOnlyBackend"]
    c = await context_for(member())
    assert await answer_of(permission_required("builds.view_build"), c) is None
    assert await answer_of(permission_required("builds.add_build"), c) == (403, "this needs a permission that you do not have")


class Refusing(ModelBackend):
    """As those of projects are that refuse more than Django's, in the methods that all pages ask."""

    def has_perm(self, user_obj: Any, perm: str, obj: object = None) -> bool:
        return False


@pytest.mark.django_db(transaction=True)
async def test_what_a_back_end_of_the_project_refuses_its_async_twin_does_not_grant(settings: Any) -> None:
    user = await user_with("view_user")
    assert await answer_of(permission_required("auth.view_user"), await context_for(user)) is None
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Refusing"]
    user = await get_user_model().objects.aget(pk=user.pk)
    assert await user.ahas_perm("auth.view_user")
    refused = (403, "this needs a permission that you do not have")
    assert await answer_of(permission_required("auth.view_user"), await context_for(user)) == refused


@pytest.mark.django_db(transaction=True)
async def test_what_the_user_itself_refuses_is_not_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await user_with("view_user")
    monkeypatch.setattr(get_user_model(), "has_perms", lambda self, permissions, obj=None: False)
    refused = (403, "this needs a permission that you do not have")
    assert await answer_of(permission_required("auth.view_user"), await context_for(user)) == refused


async def test_a_user_object_without_permissions_has_none() -> None:
    c = await context_for(SimpleNamespace(is_authenticated=True))
    assert await answer_of(permission_required("a.b"), c) == (403, "this needs a permission that you do not have")


@pytest.mark.parametrize("permissions", [(), ("view_build",), ("",), (".view",), ("builds.",), (None,), (["builds.view"],)])
def test_what_is_no_permission_is_refused_at_import(permissions: Any) -> None:
    with pytest.raises(RouteError, match="permission"):
        permission_required(*permissions)


# api_key


@pytest.mark.parametrize(
    "keys", ["secret", ["other", "secret"], {"secret", "other"}, ("secret",), {"secret": "ada"}, iter(["secret"])]
)
async def test_c05_api_key(keys: Any) -> None:
    guard = api_key(keys)
    assert await answer_of(guard, await context_for(X_API_Key="secret")) is None
    assert await answer_of(guard, await context_for()) == (401, "API key required")
    assert await answer_of(guard, await context_for(X_API_Key="")) == (401, "API key required")
    for wrong in ("Secret", "secre", "secretx", "s"):
        assert await answer_of(guard, await context_for(X_API_Key=wrong)) == (401, "API key not known")


async def test_an_api_key_says_which_scheme_it_wants() -> None:
    response = await run_guards([api_key("secret")], await context_for())
    assert response is not None
    assert response["WWW-Authenticate"] == 'ApiKey realm="django"'


@pytest.mark.parametrize("value", ["ApiKey secret", "apikey secret", "Bearer secret", "bearer  secret "])
async def test_an_api_key_may_come_as_authorization(value: str) -> None:
    assert await answer_of(api_key("secret"), await context_for(Authorization=value)) is None


@pytest.mark.parametrize("value", ["secret", "Basic secret", "Bearer", "Bearer ", ""])
async def test_another_authorization_is_no_api_key(value: str) -> None:
    assert await answer_of(api_key("secret"), await context_for(Authorization=value)) == (401, "API key required")


async def test_an_api_key_in_the_url_does_not_count() -> None:
    c = Context(AsyncRequestFactory().get("/?X-API-Key=secret&api_key=secret"), {}, route="test", cache="default")
    await c.load_user()
    assert await answer_of(api_key("secret"), c) == (401, "API key required")


async def test_the_header_of_an_api_key_can_be_chosen_and_goes_first() -> None:
    guard = api_key("secret", header="X-Build-Token")
    assert await answer_of(guard, await context_for(X_Build_Token="secret")) is None
    assert await answer_of(guard, await context_for(X_API_Key="secret")) == (401, "API key required")
    c = await context_for(X_Build_Token="wrong", Authorization="Bearer secret")
    assert await answer_of(guard, c) == (401, "API key not known")


async def test_an_api_key_is_utf8() -> None:
    c = await context_for()
    c.request.META["HTTP_X_API_KEY"] = "schlüssel".encode().decode("latin-1")
    assert await answer_of(api_key("schlüssel"), c) is None
    c.request.META["HTTP_X_API_KEY"] = "\xff"
    assert await answer_of(api_key("schlüssel"), c) == (401, "API key required")


async def test_the_owner_of_a_key_is_handed_on() -> None:
    c = await context_for(X_API_Key="secret")
    await answer_of(api_key({"secret": "ada", "other": "bob"}), c)
    assert c.var.api_key_owner == "ada"
    await answer_of(api_key("secret"), c)
    assert c.var.api_key_owner is True


async def owner_async(key: str) -> str | None:
    return {"secret": "ada"}.get(key)


def owner_sync(key: str) -> str | None:
    return {"secret": "ada"}.get(key)


class OwnerObject:
    async def __call__(self, key: str) -> str | None:
        return await owner_async(key)


@pytest.mark.parametrize(
    "lookup", [owner_async, owner_sync, OwnerObject(), lambda key: owner_async(key), functools.partial(owner_async)], ids=plain
)
async def test_a_function_may_look_the_owner_up(lookup: Any) -> None:
    c = await context_for(X_API_Key="secret")
    assert await answer_of(api_key(lookup), c) is None
    assert c.var.api_key_owner == "ada"
    c = await context_for(X_API_Key="wrong")
    assert await answer_of(api_key(lookup), c) == (401, "API key not known")
    assert not hasattr(c.var, "api_key_owner")


@pytest.mark.django_db(transaction=True)
async def test_a_plain_lookup_may_use_the_orm() -> None:
    user = await get_user_model().objects.acreate(username="secret")
    c = await context_for(X_API_Key="secret")
    assert await answer_of(api_key(lambda key: get_user_model().objects.filter(username=key).first()), c) is None
    assert c.var.api_key_owner == user


async def test_a_plain_lookup_runs_in_a_thread_and_an_async_one_does_not() -> None:
    seen = []

    def plain(key: str) -> bool:
        return not seen.append(threading.current_thread())

    async def asynchronous(key: str) -> bool:
        return plain(key)

    c = await context_for(X_API_Key="secret")
    await answer_of(api_key(plain), c)
    await answer_of(api_key(asynchronous), c)
    assert seen == [await sync_to_async(threading.current_thread)(), threading.current_thread()]


async def test_every_known_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_agent_sse import guards

    compared = []
    original = guards.compare_digest
    monkeypatch.setattr(guards, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or original(a, b))
    await answer_of(api_key(["first", "a much longer second key", "third"]), await context_for(X_API_Key="first"))
    assert compared == [(32, 32)] * 3


@pytest.mark.parametrize("keys", ["", [], [""], ["good", ""], {}, " secret", ["secret\n"], [None], [b"secret"], set()])
def test_keys_that_guard_nothing_are_refused_at_import(keys: Any) -> None:
    with pytest.raises(RouteError, match=r"api_key\(\)"):
        api_key(keys)


@pytest.mark.parametrize("header", ["", "X API Key", "X-Key:", "X-Ké", None])
def test_what_is_no_name_of_a_header_is_refused_at_import(header: Any) -> None:
    with pytest.raises(RouteError, match="not the name of a header"):
        api_key("secret", header=header)


async def test_a_refusal_carries_what_guards_have_set() -> None:
    async def counting(c: Context) -> bool:
        c.set_header("X-Seen", "1")
        return True

    response = await run_guards(check_guards([counting, login_required]), await context_for())
    assert response is not None
    assert (response.status_code, response["X-Seen"]) == (401, "1")


# A user of the guard's own


async def test_a_user_that_a_guard_sets_is_the_user_for_everything_after_it() -> None:
    """For later guards, for the handler, for what asks the request, and for the page that shows open streams."""
    seen: dict[str, Any] = {}

    async def token_required(c: Context) -> bool:
        c.user = member(is_active=True, is_staff=True)
        return True

    async def handler(c: Context, stream: Stream) -> None:
        request: Any = c.request
        (running,) = open_streams()
        seen.update(user=c.user, request=request.user, auser=await request.auser(), var=c.var.user)
        seen.update(pk=c.user_pk, shown=running.info().user)
        await stream.write("in")

    router = Router()
    router.sse("", token_required, staff_required, handler)
    assert (await ask_route(router, "/")).data == ["in"]
    user = seen["user"]
    assert user.username == "ada"
    assert all(seen[name] is user for name in ("request", "auser", "var"))
    assert (seen["pk"], seen["shown"]) == (1, "1")


async def test_a_slim_stream_keeps_the_key_of_a_user_that_a_guard_set() -> None:
    c = await context_for()
    c.user = member()
    c.release()
    assert c.user_pk == 1
    with pytest.raises(AgentSSEError, match="this stream is slim"):
        c.user = member()


async def test_nobody_can_be_set_as_the_user_too() -> None:
    c = await context_for(member())
    assert await answer_of(login_required, c) is None
    c.user = None
    assert type(c.user) is AnonymousUser
    assert await answer_of(login_required, c) == (401, "authentication required")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("ada", r"set to str 'ada', which has no is_authenticated: set a user of the project"),
        (7, "set to int 7, which has no is_authenticated"),
        (AnonymousUser, "set to type .*AnonymousUser.*, which has no is_authenticated"),
        (SimpleLazyObject(lambda: pytest.fail("it was loaded")), r"a lazy user that is not loaded, .* await the user first"),
    ],
    ids=["a name", "a key", "a class", "a lazy user"],
)
async def test_what_is_not_a_user_cannot_be_set(value: Any, why: str) -> None:
    c = await context_for(member())
    with pytest.raises(GuardError, match=why):
        c.user = value
    assert c.user.username == "ada"
    assert c.request.user is c.user


async def test_a_loaded_lazy_user_is_unwrapped() -> None:
    c = await context_for()
    lazy: Any = SimpleLazyObject(member)
    assert lazy.username == "ada"
    c.user = lazy
    assert type(c.user) is get_user_model()


async def test_where_a_log_in_is_required_a_handler_that_needs_none_leaves_it_to_its_guard() -> None:
    async def token_required(c: Context) -> bool:
        c.user = member(is_active=True) if c.header("X-Token") else None
        return signed_in(c.user)

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(c.user.get_username())

    router = Router()
    router.sse("open/", token_required, login_not_required(handler), name="open")
    middleware = [f"django.contrib.{name}" for name in SESSIONS]
    with served(router, middleware=middleware):
        assert (await ask("/open/", headers={"X-Token": "t"})).data == ["ada"]
        assert (await ask("/open/")).status == 403
