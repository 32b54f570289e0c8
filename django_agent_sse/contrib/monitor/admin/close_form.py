"""What staff can close, how it is asked for, and what is written down about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django import forms
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime.formatting import number, span
from django_agent_sse.runtime.safe_text import printable

from ..cluster import cluster_view
from ..commands import Close, Drain
from ..inspector import StreamQuery
from .live_view import names_of

MAX_TEXT = 2000
"""Characters of an id, a route or a user."""
MAX_RETRY_SECONDS = 3600
"""The longest time after which a client may be told to come back."""
ANSWER_TIMEOUT = 5.0
"""Seconds within which processes must say what they hold."""


class TargetMissing(Exception):
    """What somebody wants to close does not exist; the text is for the page."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be closed: what it is, what was done once it is closed, and the command without its details."""

    label: str
    done: str
    command: Callable[..., Close | Drain]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What somebody clicked on: a stream, with whose and of which route it is; or a process."""

    stream: str = ""
    user: str = ""
    route: str = ""
    process: str = ""
    resume: str = ""
    """Not empty: let the process take streams again."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Target:
        return cls(**{name: str(fields.get(name, ""))[:MAX_TEXT] for name in cls.__slots__})

    async def resolve(self) -> Target:
        """Return the same as the processes know it: whose a stream is, and of which route, is never taken from an address.

        Raises:
            TargetMissing: No process knows of it.
        """
        try:
            counted = (await cluster_view.look()).counted
            process = self.process or self.stream.partition(".")[0]
            if (self.process or self.stream) and process not in {snapshot.process.id for snapshot in counted}:
                if self.process:
                    raise TargetMissing(gettext("There is no such process: it has ended, or stopped reporting."))
                raise TargetMissing(gettext("There is no such stream: its process has ended, or stopped reporting."))
            if self.process:
                return Target(process=process, resume=self.resume)
            if self.stream:
                query = StreamQuery(stream=self.stream, process=process)
                rows, _, missing = await cluster_view.answers(query, ANSWER_TIMEOUT)
                if missing:
                    raise TargetMissing(gettext("The process of this stream has not answered in time. Try again."))
                if not rows:
                    raise TargetMissing(gettext("There is no such stream: it is over."))
                return Target(stream=rows[0].id, user=rows[0].user, route=rows[0].route)
            user = self.user
            if user:
                _, matched, missing = await cluster_view.answers(StreamQuery(user=user), ANSWER_TIMEOUT)
                if not matched and not missing:  # what was answered a moment ago may have been before their first stream
                    _, matched, missing = await cluster_view.answers(StreamQuery(user=user), ANSWER_TIMEOUT, anew=True)
                if missing and not matched:
                    raise TargetMissing(gettext("Not every process has answered in time. Try again."))
                user = user if matched else ""
        except AgentSSEError as error:
            raise TargetMissing(gettext("The processes cannot be asked now: {reason}").format(reason=error)) from error
        route = self.route if any(self.route in snapshot.routes for snapshot in counted) else ""
        if not (user or route):
            raise TargetMissing(gettext("There is no such stream: none of this user or this route is open."))
        return Target(user=user, route=route)

    @property
    def title(self) -> str:
        if not self.process:
            return gettext("Close streams")
        return gettext("Resume the process") if self.resume else gettext("Drain the process")

    @property
    def hidden_fields(self) -> list[tuple[str, str]]:
        return [(name, value) for name in self.__slots__ if (value := getattr(self, name))]

    def choices(self) -> dict[str, Choice]:
        """Return what can be closed from here, by the values of the form's ``scope``."""
        cluster = cluster_view.snapshot()
        if self.process:
            names = {status.snapshot.process.id: status.snapshot.process.name for status in cluster.processes}
            name, drain = names.get(self.process, self.process), partial(Drain, process=self.process)
            if self.resume:
                done = gettext("The process {name} takes streams again.").format(name=name)
                label = gettext("Take new streams in the process {name}").format(name=name)
                return {"resume": Choice(label, done, partial(drain, on=False))}
            label = gettext("Drain the process {name}").format(name=name)
            return {"drain": Choice(label, gettext("Drained the process {name}.").format(name=name), drain)}
        choices = {}
        if self.stream:
            what = self.route or self.stream
            close = partial(Close, stream=self.stream)
            label, done = gettext("This stream only ({route})"), gettext("Closed one stream of {route}.")
            choices["stream"] = Choice(label.format(route=what), done.format(route=what), close)
        if self.user:
            user = names_of([self.user])[self.user]
            label, done = gettext("All streams of {user}, on every route"), gettext("Closed all streams of {user}.")
            choices["user"] = Choice(label.format(user=user), done.format(user=user), partial(Close, user=self.user))
        if self.route:
            count = sum(snapshot.routes[self.route].open for snapshot in cluster.counted if self.route in snapshot.routes)
            label = ngettext(
                "All streams of the route {route}: {count} is open", "All streams of the route {route}: {count} are open", count
            ).format(route=self.route, count=number(count))
            done = gettext("Closed all streams of the route {route}.").format(route=self.route)
            choices["route"] = Choice(label, done, partial(Close, route=self.route))
        return choices


class ClosingForm(forms.Form):
    """What to close, whether its clients may come back, and why."""

    scope = forms.ChoiceField(label=_("What to close"), widget=forms.RadioSelect)
    back = forms.ChoiceField(
        label=_("Its clients"),
        choices=[("later", _("may come back after")), ("never", _("stay away"))],
        initial="later",
        widget=forms.RadioSelect,
        required=False,
    )
    retry = forms.IntegerField(label=_("Seconds"), initial=30, min_value=0, max_value=MAX_RETRY_SECONDS, required=False)
    reason = forms.CharField(label=_("Reason"), max_length=200, required=False, strip=True)

    def __init__(self, target: Target, data: Any = None) -> None:
        self.target, self._choices = target, target.choices()
        super().__init__(data, initial={"scope": next(iter(self._choices), "")})
        labels = [(scope, choice.label) for scope, choice in self._choices.items()]
        self.fields["scope"].choices = labels  # type: ignore[attr-defined]

    def clean_reason(self) -> str:
        """Return the reason on one line: it goes into a log."""
        return printable(" ".join(self.cleaned_data["reason"].split()))

    def command(self, by: str) -> tuple[Close | Drain, str, str]:
        """Return the command for the processes, what it does in words, and the entry for the admin's log."""
        choice, reason = self._choices[self.cleaned_data["scope"]], self.cleaned_data["reason"]
        seconds = self.cleaned_data["retry"] if self.cleaned_data.get("retry") is not None else 30
        stays_away = self.cleaned_data.get("back") == "never" and not self.target.process
        later = gettext("clients may come back after about {span}").format(span=span(seconds))
        back = gettext("clients stay away") if stays_away else later
        why = gettext("Reason: {reason}").format(reason=reason)
        entry = [choice.done, "" if self.target.resume else f"({back})", why if reason else ""]
        command = choice.command(retry=None if stays_away else 1000 * seconds, reason=reason, by=by)
        return command, choice.done, " ".join(filter(None, entry))
