"""What staff can close, how it is asked for, and what is written down about it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

from django_agent_sse.exceptions import AgentSSEError
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


class NothingThere(Exception):
    """What somebody wants to close does not exist; the text is for the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What somebody clicked on: a stream, with whose and of which route it is; or a process."""

    stream: str = ""
    user: str = ""
    route: str = ""
    process: str = ""
    resume: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Target:
        """Make it from a query string or a form."""
        values = {name: str(given.get(name, ""))[:MAX_TEXT] for name in ("stream", "user", "route", "process")}
        return cls(**values, resume=bool(given.get("resume")))

    async def found(self) -> Target:
        """Return the same as the processes know it: whose a stream is, and of which route, is never taken from an address.

        Raises:
            NothingThere: No process knows of it.
        """
        try:
            cluster = await cluster_view.look()
            running = {snapshot.process.id for snapshot in cluster.counted}
            if self.process:
                if self.process not in running:
                    raise NothingThere("There is no such process: it has ended, or stopped reporting.")
                return Target(process=self.process, resume=self.resume)
            if self.stream:
                return await self._found_stream(running)
            user = await self._found_user()
        except AgentSSEError as error:
            raise NothingThere(f"Nobody can be asked now: {error}") from error
        route = self.route if any(self.route in snapshot.routes for snapshot in cluster.counted) else ""
        if not (user or route):
            raise NothingThere("There is no such stream, or nobody has one open there: it may be over.")
        return Target(user=user, route=route)

    async def _found_user(self) -> str:
        if not self.user:
            return ""
        _, matched, missing = await cluster_view.answers(StreamQuery(user=self.user), ANSWER_TIMEOUT)
        if missing and not matched:
            raise NothingThere("Not every process has answered in time. Try again.")
        return self.user if matched else ""

    async def _found_stream(self, running: Container[str]) -> Target:
        process = self.stream.partition(".")[0]
        if process not in running:
            raise NothingThere("There is no such stream: its process has ended.")
        rows, _, missing = await cluster_view.answers(StreamQuery(stream=self.stream, process=process), ANSWER_TIMEOUT)
        if missing:
            raise NothingThere("The process of this stream has not answered in time. Try again.")
        if not rows:
            raise NothingThere("There is no such stream: it is over.")
        return Target(stream=rows[0].id, user=rows[0].user, route=rows[0].route)

    @property
    def title(self) -> str:
        """The title of the page."""
        if self.process:
            return "Take streams again" if self.resume else "Drain a process"
        return "Close streams"

    @property
    def button(self) -> str:
        """The label of the button that confirms."""
        return ("Take streams again" if self.resume else "Drain it") if self.process else "Close"

    @property
    def carried(self) -> list[tuple[str, str]]:
        """The hidden fields of the form."""
        values = {name: getattr(self, name) for name in ("stream", "user", "route", "process")} | {"resume": "1" * self.resume}
        return [(name, value) for name, value in values.items() if value]

    @property
    def process_name(self) -> str:
        """``host:pid`` of the process, if it is known."""
        processes = [status.snapshot.process for status in cluster_view.snapshot().processes]
        return next((process.name for process in processes if process.id == self.process), self.process)

    def choices(self) -> list[tuple[str, str]]:
        """Return what can be closed from here, with words for each."""
        if self.process:
            word = "resume" if self.resume else "drain"
            return [(word, f"{'Take new streams in' if self.resume else 'Drain'} the process {self.process_name}")]
        choices = []
        if self.stream:
            choices.append(("stream", f"This stream only ({self.route or self.stream})"))
        if self.user:
            choices.append(("user", f"All streams of {names_of([self.user])[self.user]}, on every route"))
        if self.route:
            counted = cluster_view.snapshot().counted
            count = sum(snapshot.routes[self.route].open for snapshot in counted if self.route in snapshot.routes)
            choices.append(("route", f"All streams of the route {self.route}: {count} are open"))
        return choices


class ClosingForm(forms.Form):
    """What to close, whether its clients may come back, and why."""

    scope = forms.ChoiceField(label="What to close", widget=forms.RadioSelect)
    back = forms.ChoiceField(
        label="Its clients",
        choices=[("later", "may come back, after"), ("never", "stay away")],
        initial="later",
        widget=forms.RadioSelect,
        required=False,
    )
    retry = forms.IntegerField(label="Seconds", initial=30, min_value=0, max_value=MAX_RETRY_SECONDS, required=False)
    reason = forms.CharField(label="Reason", max_length=200, required=False, strip=True)

    def __init__(self, target: Target, data: Any = None) -> None:
        choices = target.choices()
        super().__init__(data, initial={"scope": choices[0][0] if choices else ""})
        self.fields["scope"].choices = choices  # type: ignore[attr-defined]
        self.target = target

    def clean_reason(self) -> str:
        """Return the reason on one line: it goes into a log."""
        return printable(" ".join(self.cleaned_data["reason"].split()))

    @property
    def milliseconds(self) -> int | None:
        """When clients may come back; ``None``: never."""
        data = self.cleaned_data
        if data["scope"] != "drain" and data.get("back") == "never":
            return None
        return int(1000 * (data["retry"] if data.get("retry") is not None else 30))

    def audit(self, summary: str) -> str:
        """Return the entry for the admin's log."""
        later = self.milliseconds
        back = "clients stay away" if later is None else f"clients may come back after about {later // 1000} s"
        if self.cleaned_data["scope"] == "resume":
            back = ""
        reason = self.cleaned_data["reason"]
        return " ".join(part for part in (summary, f"({back})" if back else "", f"Reason: {reason}" if reason else "") if part)


def command_of(target: Target, form: ClosingForm, by: str) -> tuple[Close | Drain, str]:
    """Return the command for the processes, and what it does in words."""
    scope, retry = form.cleaned_data["scope"], form.milliseconds
    about: dict[str, Any] = {"reason": form.cleaned_data["reason"], "by": by}
    if scope == "resume":
        return Drain(process=target.process, on=False, **about), f"The process {target.process_name} takes streams again."
    if scope == "drain":
        return Drain(process=target.process, retry=retry, **about), f"Drained the process {target.process_name}."
    if scope == "user":
        return Close(user=target.user, retry=retry, **about), f"Closed all streams of {names_of([target.user])[target.user]}."
    if scope == "route":
        return Close(route=target.route, retry=retry, **about), f"Closed all streams of the route {target.route}."
    return Close(stream=target.stream, retry=retry, **about), f"Closed one stream of {target.route or target.stream}."
