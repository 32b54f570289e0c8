"""Sessions and users as they are now: of many identities at once, with one query for all sessions and one for all users.

What Django's own ``get_user()`` does with a session, without what it does to it: nothing is saved, renewed or flushed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Model
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from ..streams.callbacks import contained
from .identity import SESSION_USER, Identity

SESSION_BACKEND, SESSION_HASH = "_auth_user_backend", "_auth_user_hash"
_MODULES = "django.contrib.sessions.backends."
"""Where the stores are that can be asked for many sessions at once. One that is derived from them may load in its own way."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of an identity now.

    Attributes:
        session: The session, with nothing in it where it is gone; ``None`` where there was none.
        user: The user; an ``AnonymousUser`` where nobody is signed in any more. ``None`` without ``django.contrib.auth``.
        untouched: The same user, which no guard has had; ``None`` for an object of the project's own, which only one stream has.
    """

    session: Any
    user: Any
    untouched: Any = None

    def another_session(self) -> Any:
        """Return the session for one stream: as each request loads one, in which no guard of another one has put anything."""
        if self.session is None:
            return None
        session = copy(self.session)
        vars(session)["_session_cache"] = dict(vars(session)["_session_cache"])
        return session

    def another_user(self) -> Any:
        """Return the user for one more stream of the same identity: with the permissions that are known by now, once for all.

        What guards of another stream have set on theirs is not this one's, as it is not that of another request.
        """
        if self.untouched is None:
            return self.user
        user, had = copy(self.untouched), dict(vars(self.user))  # a copy: guards of the other one may be at it in a thread
        vars(user).update({name: value for name, value in had.items() if name.endswith("_perm_cache")})
        return user


def load(identities: Iterable[Identity]) -> dict[Identity, Found | Exception]:
    """Load the sessions and the users of identities; blocks. Where it fails for one of them alone, its error is there instead.

    Raises:
        Exception: A database, a cache or a back end cannot be asked.
    """
    wanted = list(identities)
    try:
        sessions = _sessions(wanted)
        users = _users(wanted, sessions)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # of a project's own back end, in a thread
        raise contained(error, "what loads a user or a session") from error
    return {identity: _found(identity, _session(identity, sessions), users[identity]) for identity in wanted}


def _found(identity: Identity, session: Any, user: Any) -> Found | Exception:
    for part in (session, user):
        if isinstance(part, Exception):
            return part
    untouched = _untouched(user, identity)
    return Found(session, user if untouched is None else copy(untouched), untouched)


def _untouched(user: Any, identity: Identity) -> Any:
    """Return a user as its own requests have it before their guards; ``None`` for an object of the project's own.

    What has been loaded now stays: an annotation of a manager or a back end cannot be told from what middleware has put there.
    """
    if isinstance(user, Model):
        if identity.put and user.pk == identity.pk:
            user = copy(user)  # it may be another session's user too
            vars(user).update({name: value for name, value in identity.put.items() if name not in vars(user)})
        return user
    if user is None or (user is identity.user and not isinstance(identity.pk, type)):
        return None
    user = copy(user)  # nobody: what the guards of the first request have set is on it, and its handler has it
    vars(user).clear()
    return user


def _attempt(load: Callable[..., Any], *args: Any) -> Any:
    """Return what is loaded, or the error: one that cannot be loaded keeps nobody else from it."""
    try:
        return load(*args)
    except Exception as error:
        return error


def _session(identity: Identity, sessions: Mapping[tuple[Any, str], Any]) -> Any:
    return None if identity.store is None else sessions[identity.store, identity.session_key]


# Sessions


def _sessions(identities: Iterable[Identity]) -> dict[tuple[Any, str], Any]:
    keys: defaultdict[type[SessionBase], set[str]] = defaultdict(set)
    for identity in identities:
        if identity.store is not None:
            keys[identity.store].add(identity.session_key)
    found: dict[tuple[Any, str], Any] = {}
    for store, own in keys.items():
        data = _data_of(store, own)
        for key in own:
            found[store, key] = _attempt(_as_it_is, store, key, data)
    return found


def _as_it_is(store: type[SessionBase], key: str, data: dict[str, dict[str, Any]] | None) -> SessionBase:
    """Return a session that nobody saves by looking at it; without a key where it is gone, as Django's own."""
    session = store(key if data is None or key in data else None)
    session.save = _leave  # type: ignore[method-assign]  # before it is loaded: an expired file would be made anew
    vars(session)["_session_cache"] = dict(session.items()) if data is None else data.get(key, {})
    session.accessed = session.modified = False
    return session


def _leave(must_create: bool = False) -> None:
    return


def _data_of(store: Any, keys: set[str]) -> dict[str, dict[str, Any]] | None:
    """Return what is in sessions, without those that are gone; ``None`` where this store is asked for one at a time."""
    kind = store.__module__.removeprefix(_MODULES)
    if kind not in ("db", "cache", "cached_db") or store.__module__ == kind:
        return None
    found: dict[str, dict[str, Any]] = {}
    if kind != "db":
        names = {store.cache_key_prefix + key: key for key in keys}
        kept = caches[settings.SESSION_CACHE_ALIAS].get_many(names)
        found = {names[name]: data for name, data in kept.items() if data is not None}
    if kind != "cache":
        model = store.get_model_class()
        rows = model.objects.using(router.db_for_write(model)).filter(
            session_key__in=[*(keys - found.keys())], expire_date__gt=timezone.now()
        )
        decode = store().decode
        found |= {row.session_key: decode(row.session_data) for row in rows}
    return found


# Users


def _users(identities: Iterable[Identity], sessions: Mapping[tuple[Any, str], Any]) -> dict[Identity, Any]:
    by_pk: defaultdict[type[Model], set[Any]] = defaultdict(set)
    by_backend: defaultdict[str, set[str]] = defaultdict(set)
    told: dict[Identity, tuple[str, str]] = {}
    for identity in identities:
        session = _session(identity, sessions)
        if (identity.by_session or identity.behind) and not isinstance(session, Exception):
            who = session.get(SESSION_USER), session.get(SESSION_BACKEND)
            if None not in who and who[1] in settings.AUTHENTICATION_BACKENDS:
                told[identity] = (str(who[1]), str(who[0]))
                by_backend[str(who[1])].add(str(who[0]))
        if identity.model is not None and not identity.by_session:
            by_pk[identity.model].add(identity.pk)
    loaded: dict[Any, Any] = {(path, pk): user for path, pks in by_backend.items() for pk, user in _of_backend(path, pks).items()}
    loaded |= {(model, pk): user for model, pks in by_pk.items() for pk, user in _in_bulk(model, pks).items()}
    return {identity: _user(identity, loaded, told.get(identity), sessions) for identity in identities}


def _user(identity: Identity, loaded: Mapping[Any, Any], told: Any, sessions: Mapping[tuple[Any, str], Any]) -> Any:
    session = _session(identity, sessions)
    own = None if told is None else loaded.get(told)
    if isinstance(session, Exception) or isinstance(own, Exception):
        return own
    if own is not None and not _verified(own, session):
        own = None
    if identity.by_session:
        user = own
    elif identity.behind and (own is None or told[1] != identity.behind):
        user = None  # whoever acts as that one is not signed in any more, or somebody else is
    elif identity.model is not None:
        user = loaded.get((identity.model, identity.pk))
        if user is not None and identity.active and not getattr(user, "is_active", True):
            user = None  # a session's user is judged by its back end, another one's by nobody else
    else:
        return identity.user
    return nobody() if user is None else user


def _of_backend(path: str, pks: set[str]) -> dict[str, Any]:
    """Return the users that a back end gives for the keys in sessions, without those that it gives none for."""
    from django.contrib.auth import get_user_model, load_backend
    from django.contrib.auth.backends import ModelBackend

    backend = load_backend(path)
    field = get_user_model()._meta.pk
    keys = {pk: key for pk in pks if (key := _key(field, pk)) is not None}
    if not isinstance(backend, ModelBackend) or type(backend).get_user is not ModelBackend.get_user:
        got = {pk: _attempt(backend.get_user, key) for pk, key in keys.items()}
        return {pk: user for pk, user in got.items() if user is not None}
    users = _in_bulk(get_user_model(), {*keys.values()})
    return {field.value_to_string(user): user for user in users.values() if backend.user_can_authenticate(user)}


def _key(field: Any, text: str) -> Any:
    """Return a primary key that a session names; ``None`` for one of another kind, as after a change of the user model."""
    try:
        return field.to_python(text)
    except ValidationError:
        return None


def _in_bulk(model: Any, pks: set[Any]) -> dict[Any, Any]:
    # Where it is written: a replica may not know yet what has just changed.
    manager = model._default_manager.using(router.db_for_write(model))
    return {user.pk: user for user in manager.filter(pk__in=pks)}


def _verified(user: Any, session: Any) -> bool:
    """Whether the session was made with the password that the user has now, as Django sees it."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    known = session.get(SESSION_HASH)
    if not known:
        return False
    if constant_time_compare(known, user.get_session_auth_hash()):
        return True
    fallbacks = user.get_session_auth_fallback_hash() if hasattr(user, "get_session_auth_fallback_hash") else ()
    return any(constant_time_compare(known, other) for other in fallbacks)


def nobody() -> Any:
    """Return who is not signed in; ``None`` without ``django.contrib.auth``."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()
