"""``{% load agent_sse %}``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django import template
from django.conf import settings
from django.http import Http404
from django.template.context import Context
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..assets import asset, import_map, json_in_html
from ..eventlog.cursor import topic_cursor
from ..exceptions import AsyncRequired, TopicNameInvalid
from ..log_steps import StepState, step_states
from ..logs import LogTail, log_tail, part_of_log, served_part
from ..script_words import LOG, errors_text, status_text, words_tag
from ..signed_urls import signed_url

logger = logging.getLogger("django_agent_sse.log")
register = template.Library()

_LOG = (
    *(
        "client",
        "words",
        "levels",
        "lines",
        "sgr",
        "look",
        "pages",
        "folds",
        "failures",
        "order",
        "rows",
        "draw",
        "search",
        "search-worker",
        "place",
        "events",
    ),
    *("panel", "following", "connection", "finish", "outcome", "source", "finder", "navigation"),
    *("selected", "clipboard", "keyboard", "viewport", "beside"),
)
SCRIPTS = {"log": _LOG, "logs": ("client", "words"), "element": ("client",)}
"""What ``{% sse_script %}`` can load, and the modules that each imports by the addresses on its tag."""
WORKERS = ("search-worker",)
"""Those among them that no module imports: a worker runs them, when it is needed."""
ICONS = {"log": ("passed", "failed", "ended")}
"""Icons of a tab whose log is over; their addresses stand on the tag too."""
_ENDED_WELL = ("completed", "finished", "passed", "succeeded")
LINES = 100
"""Lines that stand in a page before its script runs."""


@register.simple_tag
def sse_cursor(*topics: str) -> str:
    """``{% sse_cursor "builds.42" %}``: the cursor at which these topics end now, for ``?last_event_id=`` of the stream's URL.

    A name that no topic can have is a 404.

    Raises:
        AsyncRequired: The template is rendered on an event loop.
    """
    try:
        return topic_cursor(*topics)
    except TopicNameInvalid as error:
        raise Http404(str(error)) from error
    except AsyncRequired as error:
        raise AsyncRequired(
            "{% sse_cursor %} would hold up the event loop; give the template `await atopic_cursor(…)` from the view"
        ) from error


_OF_THE_REQUEST: Any = object()


@register.simple_tag(takes_context=True)
def sse_signed_url(
    context: Context, url: str, *, user: Any = _OF_THE_REQUEST, method: str = "GET", max_age: int | None = None
) -> str:
    """``{% sse_signed_url src %}``: the address signed for the user of the request, see ``signed_url``.

    Args:
        context: The template's.
        url: The address, as ``{% url … as src %}`` gives it.
        user: Another user; ``None``: whoever has the address.
        method: As for ``signed_url``, and so is ``max_age``.

    Raises:
        TemplateSyntaxError: The template's context has no request, and ``user`` is not given.
    """
    if user is _OF_THE_REQUEST:
        request = context.get("request")
        if request is None:
            raise template.TemplateSyntaxError("{% sse_signed_url %}: there is no request in the context; give user=")
        user = getattr(request, "user", None)
    return signed_url(url, user=user, method=method, max_age=max_age)


@register.simple_tag(takes_context=True)
def sse_script(context: Context, *names: str) -> SafeString:
    """``{% sse_script %}``: the log viewer and its styles; ``{% sse_script "element" %}``: ``<event-stream>`` alone.

    ``{% sse_script "log" "logs" %}`` is for several logs of one thing.

    Links let browsers fetch what a script imports together with it. The tags carry the nonce of Django's Content Security Policy
    (6.0 and later), or of django-csp, where there is one.

    Raises:
        TemplateSyntaxError: A name that is not in ``SCRIPTS``.
    """
    if unknown := [name for name in names if name not in SCRIPTS]:
        known = ", ".join(f'"{name}"' for name in SCRIPTS)
        raise template.TemplateSyntaxError(f"{{% sse_script {unknown[0]!r} %}}: there are {known}")
    nonce = _nonce(context)
    names = names or ("log",)
    imported = dict.fromkeys(module for name in names for module in SCRIPTS[name] if module not in WORKERS)
    tags = [
        *(_link("stylesheet", f"{name}.css", nonce) for name in ("log", "logs") if name in names),
        *(_link("modulepreload", f"{module}.js", nonce) for module in imported),
        words_tag(LOG) if "log" in names else "",
        *(_script(name, nonce) for name in names),
    ]
    return SafeString("\n".join(filter(None, tags)))


@register.simple_tag(takes_context=True)
def sse_importmap(context: Context, more: Mapping[str, str] | None = None) -> SafeString:
    """``{% sse_importmap %}``: modules import ``django-agent-sse``, ``django-agent-sse/element`` and the like by their names.

    Browsers want it before the first module of a page, and older ones take one such map only: ``more``, a dictionary of the
    template's context, is added to it. The tag carries a nonce as that of ``{% sse_script %}`` does.
    """
    text = json_in_html({"imports": {**import_map(), **(more or {})}})
    return format_html('<script type="importmap"{}>{}</script>', _nonce(context), SafeString(text))


@register.simple_tag(takes_context=True)
def event_stream(context: Context, url: str, **attributes: object) -> SafeString:
    """``{% event_stream url %}``: the element ``<event-stream src="…">``; keywords become its attributes, ``_`` being ``-``."""
    return format_html('<event-stream src="{}"{}></event-stream>', url, _attributes(attributes))


@register.inclusion_tag("django_agent_sse/log.html", takes_context=True)
def sse_log(
    context: Context,
    topic: str,
    src: str,
    *,
    lines: int = LINES,
    label: str = "",
    status: str = "",
    started: datetime | str | None = None,
    ended: datetime | str | None = None,
    exit_code: int | None = None,
    login: str = "",
    raw: str | None = None,
    range: str | None = None,
    actions: Sequence[Any] = (),
) -> dict[str, Any]:
    """``{% sse_log topic src %}``: the viewer ``<sse-log>``, with the last lines in the page for browsers without JavaScript.

    For a name that no topic can have, the page says so instead, and so does the log.

    Args:
        context: The template's.
        topic: Its name.
        src: The URL of its stream.
        lines: How many of the last lines stand in the page; 0 for none. Whoever gets the page sees them: the guards of
            ``src`` are not asked.
        label: What screen readers call the log.
        status: What is known of the run: ``queued``, ``running``, ``passed``, ``failed`` or a word of yours.
        started: When it began; a time without a zone is one of the server's.
        ended: When it ended.
        exit_code: What it ended with.
        login: The URL of the log-in page, offered to those who are signed out.
        raw: The URL of the text; not needed where ``router.log()`` serves ``src``, and neither is ``range``.
        range: The URL of the parts.
        actions: Buttons: each has ``label``, ``url``, which is posted to, ``when`` (``new``, ``running``, ``ended``, or several)
            and ``hidden``.

    Raises:
        AsyncRequired: The template is rendered on an event loop.
    """
    try:
        tail = log_tail(topic, lines)
    except TopicNameInvalid as error:  # the page is about something that is there, though it can have no log
        logger.warning("{%% sse_log %%} shows no log: %s", error)
        return {"nothing": str(error)}
    except AsyncRequired as error:
        raise AsyncRequired(
            "{% sse_log %} reads the log and would hold up the event loop; render the template with "
            "`await sync_to_async(render)(…)`, or in a plain view"
        ) from error
    raw = served_part(src, "raw") if raw is None else raw
    range = served_part(src, "range") if range is None else range
    status, started, ended = status or _state(tail), _time(started), _time(ended)
    attributes = {"src": src, "raw": raw, "range": range, "position": tail.position, "label": label, "status": status}
    about = {"started": started, "ended": ended, "exit-code": exit_code, "login": login}
    return {
        "attributes": _attributes({name: value for name, value in (attributes | about).items() if value not in (None, "")}),
        "tail": tail,
        "raw": raw,
        "actions": actions,
        "csrf_token": context.get("csrf_token"),
    }


@register.inclusion_tag("django_agent_sse/logs.html", takes_context=True)
def sse_logs(
    context: Context,
    steps: Mapping[str, str],
    src: str,
    *,
    selected: str = "",
    lines: int = LINES,
    label: str = "Steps",
    login: str = "",
) -> dict[str, Any]:
    """``{% sse_logs steps src %}``: several logs of one thing with their states, and the one that is chosen.

    Each step is a link to this page, ``?step=test``; the one that the address names is open, else the first that has failed, else
    the first that runs, else the first.

    Args:
        context: The template's.
        steps: Topics by the names of steps, as for ``router.logs()``.
        src: The URL that ``router.logs()`` serves.
        selected: The step to open.
        lines: As for ``sse_log``, and so is ``login``.
        label: What screen readers call the list.

    Raises:
        AsyncRequired: The template is rendered on an event loop.
    """
    states = {state.step: state for state in step_states(steps)}
    asked = selected or _asked_step(context)
    chosen = asked if asked in states else _worth_seeing([*states.values()])
    rows = [_step(step, steps[step], state, src, step == chosen) for step, state in states.items()]
    return {
        "src": src,
        "steps": rows,
        "selected": next(row for row in rows if row["selected"]),
        "lines": lines,
        "label": label,
        "login": login,
        "csrf_token": context.get("csrf_token"),
    }


def _asked_step(context: Context) -> str:
    request = context.get("request")
    return str(request.GET.get("step", "")) if request is not None else ""


def _worth_seeing(states: Sequence[StepState]) -> str:
    def rank(state: StepState) -> int:
        if state.ended is not None:
            return 2 if state.status in _ENDED_WELL else 0
        return 1 if state.status == "running" else 3

    return min(states, key=rank).step


def _step(step: str, topic: str, state: StepState, src: str, selected: bool) -> dict[str, Any]:
    own = part_of_log(src, step)
    times = {name: _time_of(getattr(state, name)) for name in ("started", "ended")}
    return {
        "topic": topic,
        "state": state,
        "said": status_text(state.status),
        "errors": errors_text() if state.errors else "",
        "status": "" if state.status == "completed" else state.status,
        "src": own,
        "range": part_of_log(own, "range"),
        "raw": part_of_log(own, "raw"),
        "href": f"?{urlencode({'step': step})}",
        "selected": selected,
        **times,
    }


def _time_of(seconds: float | None) -> str:
    return "" if not seconds else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _state(tail: LogTail) -> str:
    if tail.closed is not None:
        return "" if tail.closed == "completed" else tail.closed
    return "running" if tail.position and tail.position != "0" else "waiting"


def _time(value: datetime | str | None) -> str | None:
    """Return a time as a browser in any zone reads it: one without a zone is the server's, as everywhere in Django."""
    when = value if isinstance(value, datetime) else None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # 31 February
            when = parse_datetime(value)
    if when is None:
        return value  # type: ignore[return-value]  # the viewer ignores what is not a time
    if timezone.is_naive(when):
        when = timezone.make_aware(when, timezone.get_default_timezone()) if settings.TIME_ZONE else when.astimezone()
    return when.isoformat()


def _attributes(values: dict[str, Any]) -> SafeString:
    return format_html_join("", ' {}="{}"', ((name.replace("_", "-"), value) for name, value in values.items()))


def _link(rel: str, file: str, nonce: SafeString) -> SafeString:
    return format_html('<link rel="{}" href="{}"{}>', rel, _static(file), nonce)


def _script(name: str, nonce: SafeString) -> SafeString:
    files = [(module, f"{module}.js") for module in SCRIPTS[name]] + [(icon, f"{icon}.svg") for icon in ICONS.get(name, ())]
    modules = format_html_join("", ' data-{}="{}"', ((what, _static(file)) for what, file in files))
    return format_html('<script type="module" src="{}" data-agent-sse{}{}></script>', _static(f"{name}.js"), modules, nonce)


def _static(name: str) -> str:
    return asset(f"django_agent_sse/{name}")


def _nonce(context: Context) -> SafeString:
    """Return the attribute; a lazy nonce of Django's is false until it is used."""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    return SafeString("") if nonce is None else format_html(' nonce="{}"', str(nonce))
