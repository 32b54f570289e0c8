"""``topic_permissions()``: who may follow which topic, as a table of names and permissions, for ``AGENT_SSE["CAN_FOLLOW"]``."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Model

from ..eventlog.validation import fields_of
from ..exceptions import ConfigurationError, RouteError
from ..guards import has_permissions, name_of

TopicRule: TypeAlias = bool | str | tuple[str, type[Model]] | Callable[..., bool]
"""``True``: anybody; a permission; a permission for an object of a model; ``(user, **fields) -> bool``."""


@dataclass(frozen=True, slots=True)
class _Entry:
    parts: tuple[str, ...]
    rule: TopicRule

    def fields(self, topic: list[str]) -> dict[str, str] | None:
        """Return what stands for the fields; ``None`` where it is the name of another topic."""
        if len(topic) != len(self.parts):
            return None
        found = {}
        for part, own in zip(topic, self.parts, strict=True):
            if own[:1] == "{":
                found[own[1:-1]] = part
            elif own != part:
                return None
        return found


def topic_permissions(rules: Mapping[str, TopicRule]) -> Callable[[Any, str], bool]:
    """Make a function for ``AGENT_SSE["CAN_FOLLOW"]`` of a table; topics that are not in it may not be followed.

    ``{"news": True, "builds.{pk}": ("builds.view_build", Build), "names.{name}": lambda user, name: user.username == name}``

    A permission for an object is asked of all back ends in ``AUTHENTICATION_BACKENDS``, without the object and with it, so that
    those of object permissions answer as well. The fields find the object; where there is none, nobody may.

    Args:
        rules: By names of topics, in which ``{field}`` stands for a whole part between dots: ``True`` for anybody; a permission,
            ``"app_label.codename"``; a permission and the model of the object; or a function ``(user, **fields)``.

    Raises:
        ConfigurationError: A name or a rule that is none.
    """
    entries = [_Entry(_parts(name), _checked(name, rule)) for name, rule in rules.items()]

    def can_follow(user: Any, topic: str) -> bool:
        parts = topic.split(".")
        for entry in entries:
            if (fields := entry.fields(parts)) is not None:
                return _allows(entry.rule, user, fields)
        return False

    return can_follow


def _parts(name: str) -> tuple[str, ...]:
    try:
        fields = fields_of(name)
    except RouteError as error:
        raise ConfigurationError(f"topic_permissions(): {error}") from error
    parts = tuple(name.split("."))
    if {part[1:-1] for part in parts if part[:1] == "{"} != {*fields} or name.count("{") != len(fields):
        raise ConfigurationError(
            f"topic_permissions({name!r}): each {{field}} is a whole part between dots, and stands there once"
        )
    return parts


def _checked(name: str, rule: Any) -> TopicRule:
    permission = rule[0] if isinstance(rule, tuple) and len(rule) == 2 else rule
    of_object = isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[1], type) and issubclass(rule[1], Model)
    if isinstance(permission, str) and all(permission.partition(".")) and (of_object or rule is permission):
        return rule  # type: ignore[no-any-return]
    if rule is True:
        return rule
    if callable(rule) and not isinstance(rule, type):
        return _called(name, rule)
    raise ConfigurationError(
        f'topic_permissions({name!r}): {rule!r:.80} is no rule: True, a permission "app_label.codename", (permission, Model), or '
        "a function (user, …) that returns True or False"
    )


def _called(name: str, rule: Any) -> TopicRule:
    fields = ", ".join(fields_of(name))
    called = f"topic_permissions({name!r}): {name_of(rule)} is called with (user{f', {fields}' if fields else ''})"
    if iscoroutinefunction(rule) or iscoroutinefunction(type(rule).__call__):
        raise ConfigurationError(f"{called} in a thread, and cannot be async: it may use the ORM as it is")
    try:
        with contextlib.suppress(ValueError):  # some of C have no signature
            inspect.signature(rule).bind(None, **dict.fromkeys(fields_of(name)))
    except TypeError as error:
        raise ConfigurationError(f"{called}: {error}") from error
    return rule  # type: ignore[no-any-return]


def _allows(rule: TopicRule, user: Any, fields: dict[str, str]) -> bool:
    if rule is True:
        return True
    if isinstance(rule, str):
        return has_permissions(user, (rule,))
    if isinstance(rule, tuple):
        permission, model = rule
        try:
            found = model._default_manager.using(router.db_for_read(model)).filter(**fields).first()
        except (ValueError, TypeError, ValidationError):  # no primary key can be that
            return False
        return found is not None and has_permissions(user, (permission,), found)
    assert callable(rule)
    return rule(user, **fields)
