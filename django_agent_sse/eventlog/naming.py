"""Topics' names with values from outside in them: one rule for URLs, handlers and the admin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

from ..exceptions import RouteError, TopicNameInvalid
from ..runtime.safe_text import printable
from .validation import MAX_NAME, valid_topic

_FIELD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def topic_name(template: str, /, **values: object) -> str:
    """Return a topic's name with values from outside in it, none of which can lead to another topic.

    ``topic_name("builds.{id}", id=c.query["id"])``: what stands for a field holds no ``.``, which separates the parts of a
    name, and nothing but printable ASCII. It is the rule of ``router.topic()``; use it where you make a name of what a client
    sent. In a handler whose response has not begun, the error is answered with 404.

    Args:
        template: The name with ``{fields}``.
        values: What stands for them, as ``str()`` of it.

    Raises:
        TopicNameInvalid: A value cannot stand in a name, or no topic can have the name.
        RouteError: The template is none, or has a field without a value.
    """
    if missing := [field for field in fields_of(template) if field not in values]:
        raise RouteError(f"topic_name({template!r}): there is no value for {{{missing[0]}}}")
    return filled(template, values)


def filled(template: str, values: Mapping[str, object]) -> str:
    """Return the name that a template, which ``fields_of`` has seen, makes with these values.

    Raises:
        TopicNameInvalid: A value cannot stand in a name, or no topic can have the name.
    """
    return valid_topic(template.format_map({field: _part(value) for field, value in values.items()}))


def fields_of(template: str) -> list[str]:
    """Return what stands in ``{}`` in a name.

    Raises:
        RouteError: It is not a name with ``{fields}``.
    """
    try:
        valid_topic(template)
        parts = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template) if field is not None]
    except (TopicNameInvalid, ValueError) as error:
        raise RouteError(f"{template!r} is not a topic's name with {{fields}}: {error}") from error
    for field, spec, conversion in parts:
        if not _FIELD.fullmatch(field) or spec or conversion:
            raise RouteError(
                f"{template!r} holds {{{field}}}; a value stands in a topic's name by the field's name alone, as {{id}}"
            )
    return [*dict.fromkeys(field for field, _, _ in parts)]


def _part(value: object) -> str:
    text = str(value)
    if not text or "." in text or len(text) > MAX_NAME or not (text.isascii() and text.isprintable()):
        raise TopicNameInvalid(
            f"'{printable(text, 40)}' cannot stand in a topic's name: a value there is 1 to {MAX_NAME} characters of printable "
            "ASCII without '.', such as an id or a slug"
        )
    return text
