"""``close_streams()``: end the streams of a user, a route, a topic or a session, in every process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ValidationError
from django.db import connections

from ..eventlog.backend import refuse_on_a_loop
from ..eventlog.validation import valid_topic
from ..exceptions import ArgumentInvalid
from ..runtime.pools import where_called, writers
from .identity import session_text, user_text
from .orders import AccessOrder, Close, new_id
from .service import access


def close_streams(
    *,
    user: object = None,
    route: str | None = None,
    topic: str | None = None,
    session: str | SessionBase | None = None,
    reconnect: bool = True,
) -> None:
    """End the open streams that fit all that is given, in every process, as ``revoked``.

    Their clients come back after a moment, and the guards are asked: whoever may no longer listen is refused, and whoever may
    goes on where it was. In a transaction it is done when that commits. Those of other processes end within a second or so.

    Args:
        user: A user, or the primary key of one of ``AUTH_USER_MODEL``: whose streams they are, or who acts as that one in them.
        route: A route's pattern, as log lines and the monitor show it.
        topic: Streams that follow this topic.
        session: A session's key, or ``request.session``.
        reconnect: With ``False`` their clients are told that it is all over, and an ``EventSource`` stays away.

    Raises:
        ArgumentInvalid: Nothing was given, or what cannot be meant.
        TopicNameInvalid: No topic can have that name.
        EventLogError: The event log could not take it: other processes do not know of it.
        AsyncRequired: An event loop runs here.
    """
    refuse_on_a_loop("close_streams")
    tell_at_commit(_order(user, route, topic, session, reconnect))


async def aclose_streams(
    *,
    user: object = None,
    route: str | None = None,
    topic: str | None = None,
    session: str | SessionBase | None = None,
    reconnect: bool = True,
) -> None:
    """See ``close_streams``."""
    order = _order(user, route, topic, session, reconnect)
    await where_called(lambda: tell_at_commit(order), writers)


def _order(user: object, route: object, topic: object, session: object, reconnect: object) -> Close:
    if user is None and route is None and topic is None and session is None:
        raise ArgumentInvalid("close_streams() wants to know which: give user=, route=, topic= or session=, or several of them")
    if not isinstance(reconnect, bool):
        raise ArgumentInvalid(f"close_streams(reconnect={reconnect!r:.80}): True or False")
    return Close(
        users=frozenset() if user is None else frozenset({_user(user)}),
        route="" if route is None else _text("route", route, "a route's pattern"),
        topic="" if topic is None else valid_topic(topic),  # type: ignore[arg-type]
        sessions=frozenset() if session is None else frozenset({_session(session)}),
        reconnect=reconnect,
    )


def _user(user: Any) -> str:
    if isinstance(user, bool | type) or callable(user):
        raise ArgumentInvalid(f"close_streams(user={user!r:.80}): a user, or the primary key of one")
    text = user_text(user) if hasattr(user, "is_authenticated") else _key(user)
    if not text:
        raise ArgumentInvalid(f"close_streams(user={user!r:.80}): that is nobody, or a user that was not saved")
    return text


def _key(key: object) -> str:
    """Return a primary key as orders name it; a user's name is none, and would end nobody's streams without a word."""
    if key == "" or not apps.is_installed("django.contrib.auth"):
        return str(key)
    model = apps.get_model(settings.AUTH_USER_MODEL)
    try:
        return str(model._meta.pk.to_python(key))
    except (ValidationError, TypeError, ValueError) as error:
        raise ArgumentInvalid(
            f"close_streams(user={key!r:.80}): that is no primary key of {settings.AUTH_USER_MODEL}; give the user, or user.pk"
        ) from error


def _session(session: Any) -> str:
    key = session.session_key if isinstance(session, SessionBase) else session
    return session_text(_text("session", key, "a session that was saved, or its key"))


def _text(name: str, value: object, expected: str) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentInvalid(f"close_streams({name}={value!r:.80}): {expected}")
    return value


def tell_at_commit(order: AccessOrder) -> None:
    """Have an order executed in every process, once what is written in the transactions that are open here can be read there."""
    # Whoever is told sooner would come back and be let in by what still stands in the database. Of several transactions nobody
    # knows which matters: it is done after each, as another order.
    open_ones = [connection for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    for connection in open_ones:
        connection.on_commit(lambda: access.tell(replace(order, id=new_id())))
    if not open_ones:
        access.tell(order)
