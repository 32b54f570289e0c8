"""Who has opened a stream, as middleware had found it: enough to find the session and the user anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db.models import Model
from django.utils.functional import cached_property as lazily

from ..guards import signed_in
from ..streams.context import Context

_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})
SESSION_USER = "_auth_user_id"
"""Django's ``SESSION_KEY``; its module imports models, which not every project has."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Streams of one identity are asked about together, with one load of its session and of its user.

    Attributes:
        session_key: The session's key, ``""`` where there is none.
        store: What loads it.
        model: The user's model; ``None`` for nobody, and for a user that is no model's.
        pk: The user's primary key; of one that is no model's, which object it is.
        by_session: The user came out of the session, as ``AuthenticationMiddleware`` finds it; else something else has set it.
        behind: The key of the session's user, where something else has set another one: who acts as somebody must stay signed in.
        active: The user was active.
        user: The user where there is no model to load it by; nobody's too.
        put: What middleware has put on the user, as django-otp does ``is_verified``: a user that is loaded anew has none of it.
        put_key: What tells that from what another request has put there: a token's scopes are not those of the next one.
    """

    session_key: str = ""
    store: type[SessionBase] | None = None
    model: type[Model] | None = None
    pk: Any = None
    by_session: bool = False
    behind: str = ""
    active: bool = True
    user: Any = field(default=None, compare=False)
    put: Mapping[str, Any] | None = field(default=None, compare=False)
    put_key: tuple[tuple[str, type, object], ...] = ()

    @property
    def users(self) -> set[str]:
        """Whose request it was, and who acted as that one, as ``user_text`` has them."""
        return {self.behind, user_text(self.user) if self.model is None else text_of(self.model, self.pk)} - {""}

    @property
    def shared(self) -> bool:
        """Whether another stream can have the same one."""
        return bool(self.session_key) or self.model is not None


def identity_of(c: Context) -> Identity:
    """Return whose request it is, once its user is loaded, and before a guard has set another. Costs no query."""
    user: Any = c.user
    session = getattr(c.request, "session", None)
    key = getattr(session, "session_key", None) or ""
    store = type(session) if key and isinstance(session, SessionBase) else None
    model = type(user) if isinstance(user, Model) and user.pk is not None else None
    behind = _user_of(session) if store is not None else ""
    put = None if model is None else _put_on(user, model)
    by_session = bool(behind and model and signed_in(user)) and behind == user._meta.pk.value_to_string(user)
    return Identity(
        session_key=key,
        store=store,
        model=model,
        pk=user.pk if model is not None else _which(user),
        by_session=by_session,
        behind="" if by_session else behind,
        active=bool(getattr(user, "is_active", True)),
        user=user if model is None else None,
        put=put,
        put_key=tuple((name, type(value), _known(value)) for name, value in sorted((put or {}).items(), key=itemgetter(0))),
    )


def _user_of(session: Any) -> str:
    """Return the key of a session's user, ``""`` for none. What nobody has loaded nobody has gone by."""
    return str(vars(session).get("_session_cache", {}).get(SESSION_USER, ""))


def _which(user: Any) -> object:
    """Return what no other object has, and all have that are nobody and nothing else."""
    plain = user is None or (not signed_in(user) and getattr(user, "__dict__", user) == {})
    return type(user) if plain else id(user)


def _put_on(user: Any, model: type[Model]) -> dict[str, Any] | None:
    added = vars(user).keys() - _own_names(model)
    return {name: vars(user)[name] for name in added if not name.startswith("_")} or None


def _known(value: object) -> object:
    """Return what only equal values have. Others than the plain ones are not compared: that may query, and raise."""
    return value if type(value) in _PLAIN else id(value)


@lru_cache(maxsize=16)
def _own_names(model: type[Model]) -> frozenset[str]:
    """Return the names that a user of a model has by itself: of fields, of cached properties, of what ``login()`` sets."""
    cached = [name for base in model.__mro__ for name in vars(base) if isinstance(vars(base)[name], cached_property | lazily)]
    return frozenset({"_state", "backend", *cached, *(field.attname for field in model._meta.concrete_fields)})


def user_text(user: Any) -> str:
    """Return a user as orders name it: the primary key, with the model before it where that is not ``AUTH_USER_MODEL``.

    ``""`` for nobody. Of a proxy it is the same as of its model.
    """
    pk = getattr(user, "pk", None)
    if pk is None:
        return ""
    meta = getattr(user, "_meta", None)
    return str(pk) if meta is None else text_of(meta.model, pk)  # the class of a lazy user, as request.user is, is another one


def text_of(model: type[Any], pk: Any) -> str:
    """Return a user of a model as orders name it."""
    if not apps.is_installed("django.contrib.auth"):
        return str(pk)
    project, concrete = apps.get_model(settings.AUTH_USER_MODEL), model._meta.concrete_model
    return str(pk) if issubclass(concrete, project._meta.concrete_model) else f"{concrete._meta.label_lower}:{pk}"


def session_text(key: str) -> str:
    """Return a session as orders name it: not its key, which opens it, but a digest of that."""
    return hashlib.sha256(f"django_agent_sse.session:{key}".encode(errors="surrogatepass")).hexdigest()[:32] if key else ""
