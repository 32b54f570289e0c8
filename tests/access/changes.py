"""People with sessions and rights, and what may become of these: for tests in process, and for the site as a server."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, logout
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpRequest

MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"]
BACKEND = "django.contrib.auth.backends.ModelBackend"
PERMISSION = "auth.view_group"


def permission() -> Permission:
    return Permission.objects.get(codename="view_group")


def person(name: str, *, group: str = "", permitted: bool = False, **about: Any) -> User:
    """Return a new user, with the permission itself, or in a group that has it."""
    user = User.objects.create_user(name, password="x", **about)
    if permitted:
        user.user_permissions.add(permission())
    if group:
        made, _ = Group.objects.get_or_create(name=group)
        made.permissions.add(permission())
        user.groups.add(made)
    return user


def sign_in(user: User) -> Any:
    """Return a session in which the user is signed in."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session


def sign_out(user: User, session: Any) -> None:
    request = HttpRequest()
    request.session, request.user = type(session)(session.session_key), user
    logout(request)


def cookie(session: Any) -> dict[str, str]:
    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}", "Accept": "text/event-stream"}


def _save(user: User, **values: Any) -> None:
    for name, value in values.items():
        setattr(user, name, value)
    user.save(update_fields=[*values])


def _new_password(user: User) -> None:
    user.set_password("another")
    user.save()


def _group(user: User) -> Group:
    return user.groups.get()


CHANGES: dict[str, tuple[str, dict[str, Any], Callable[[User, Any], object]]] = {
    "signs out": ("signed-in", {}, sign_out),
    "gets a new password": ("signed-in", {}, lambda user, session: _new_password(user)),
    "is deactivated": ("signed-in", {}, lambda user, session: _save(user, is_active=False)),
    "is deleted": ("signed-in", {}, lambda user, session: user.delete()),
    "has the session deleted": (
        "signed-in",
        {},
        lambda user, session: session.model.objects.get(pk=session.session_key).delete(),
    ),
    "is no longer staff": ("staff", {"is_staff": True}, lambda user, session: _save(user, is_staff=False)),
    "is no superuser any more": ("permitted", {"is_superuser": True}, lambda user, session: _save(user, is_superuser=False)),
    "loses the permission": ("permitted", {"permitted": True}, lambda user, session: user.user_permissions.clear()),
    "is taken out of the group": ("permitted", {"group": "own"}, lambda user, session: _group(user).user_set.remove(user)),
    "is in a group that loses it": ("permitted", {"group": "own"}, lambda user, session: _group(user).permissions.set([])),
    "is in a group that is deleted": ("permitted", {"group": "own"}, lambda user, session: _group(user).delete()),
}
"""What happens to somebody: on which route the stream is, how they came by the right, and what is done."""
REFUSED = {"signed-in": 401, "staff": 403, "permitted": 403}
"""The answer to who comes back after that; 401 where nobody is signed in any more."""


class Router:
    """A router for databases, as projects have them."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"
