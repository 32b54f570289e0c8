"""Who opens streams in tests of access: people with sessions, in the project's database."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"]
BACKEND = "django.contrib.auth.backends.ModelBackend"


def person(name: str, **about: Any) -> User:
    return User.objects.create_user(name, password="x", **about)


def sign_in(user: User, store: type[Any] = SessionStore) -> Any:
    """Return a session in which the user is signed in."""
    session = store()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session


def cookie(session: Any) -> dict[str, str]:
    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}"}
