"""What staff can close, how it is asked for, and what is written down about it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

from django_agent_sse.contrib.monitor.cluster import board
from django_agent_sse.contrib.monitor.commands import Close, Drain
from django_agent_sse.contrib.monitor.inspector import Question
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime.safe_text import printable

from .live_view import names_of

SCOPES = ("stream", "user", "route", "drain", "resume")
LONGEST = 2000
"""Characters of an id, a route or a user."""
LONGEST_RETRY = 3600
"""Seconds after which a client may be told to come back, at most."""
ANSWER_TIMEOUT = 5.0
"""Seconds that processes get to say what they hold."""


class NothingThere(Exception):
    """What somebody wants to close does not exist, in the words of the page."""


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
        """From a query or a form."""
        values = {name: str(given.get(name, ""))[:LONGEST] for name in ("stream", "user", "route", "process")}
        return cls(**values, resume=bool(given.get("resume")))

    async def found(self) -> Target:
        """The same as the processes tell it: whose a stream is, and of which route, is never taken from an address.

        Raises:
            NothingThere: No process knows of it.
        """
        try:
            picture = await board.look()
            running = {seen.process.id for seen in picture.counted}
            if self.process:
                if self.process not in running:
                    raise NothingThere("There is no such process: it has ended, or stopped reporting.")
                return Target(process=self.process, resume=self.resume)
            if self.stream:
                return await self._found_stream(running)
            user = await self._found_user()
        except AgentSSEError as error:
            raise NothingThere(f"Nobody can be asked now: {error}") from error
        route = self.route if any(self.route in one.routes for one in picture.counted) else ""
        if not (user or route):
            raise NothingThere("There is no such stream, or nobody has one open there: it may be over.")
        return Target(user=user, route=route)

    async def _found_user(self) -> str:
        if not self.user:
            return ""
        _, matched, missing = await board.answers(Question(user=self.user), ANSWER_TIMEOUT)
        if missing and not matched:
            raise NothingThere("Not every process has answered in time. Try again.")
        return self.user if matched else ""

    async def _found_stream(self, running: Container[str]) -> Target:
        process = self.stream.partition(".")[0]
        if process not in running:
            raise NothingThere("There is no such stream: its process has ended.")
        rows, _, missing = await board.answers(Question(stream=self.stream, process=process), ANSWER_TIMEOUT)
        if missing:
            raise NothingThere("The process of this stream has not answered in time. Try again.")
        if not rows:
            raise NothingThere("There is no such stream: it is over.")
        return Target(stream=rows[0].id, user=rows[0].user, route=rows[0].route)

    @property
    def title(self) -> str:
        """Of the page."""
        if self.process:
            return "Take streams again" if self.resume else "Drain a process"
        return "Close streams"

    @property
    def button(self) -> str:
        """What does it."""
        return ("Take streams again" if self.resume else "Drain it") if self.process else "Close"

    @property
    def carried(self) -> list[tuple[str, str]]:
        """The hidden fields of the form that asks."""
        values = {name: getattr(self, name) for name in ("stream", "user", "route", "process")} | {"resume": "1" * self.resume}
        return [(name, value) for name, value in values.items() if value]

    @property
    def process_name(self) -> str:
        """``host:pid`` of the process, if it is known."""
        found = [seen.snapshot.process for seen in board.picture().processes]
        return next((one.name for one in found if one.id == self.process), self.process)

    def choices(self) -> list[tuple[str, str]]:
        """What can be closed from here, in words."""
        if self.process:
            word = "resume" if self.resume else "drain"
            return [(word, f"{'Take new streams in' if self.resume else 'Drain'} the process {self.process_name}")]
        found = []
        if self.stream:
            found.append(("stream", f"This stream only ({self.route or self.stream})"))
        if self.user:
            found.append(("user", f"All streams of {names_of([self.user])[self.user]}, on every route"))
        if self.route:
            count = sum(one.routes[self.route].open for one in board.picture().counted if self.route in one.routes)
            found.append(("route", f"All streams of the route {self.route}: {count} are open"))
        return found


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
    retry = forms.IntegerField(label="Seconds", initial=30, min_value=0, max_value=LONGEST_RETRY, required=False)
    reason = forms.CharField(label="Reason", max_length=200, required=False, strip=True)

    def __init__(self, target: Target, data: Any = None) -> None:
        choices = target.choices()
        super().__init__(data, initial={"scope": choices[0][0] if choices else ""})
        self.fields["scope"].choices = choices  # type: ignore[attr-defined]
        self.target = target

    def clean_reason(self) -> str:
        """On one line: it goes into a log."""
        return printable(" ".join(self.cleaned_data["reason"].split()))

    @property
    def milliseconds(self) -> int | None:
        """After how long clients may come back; ``None``: never."""
        data = self.cleaned_data
        if data["scope"] != "drain" and data.get("back") == "never":
            return None
        return int(1000 * (data["retry"] if data.get("retry") is not None else 30))

    def audit(self, told: str) -> str:
        """For the admin's log."""
        later = self.milliseconds
        back = "clients stay away" if later is None else f"clients may come back after about {later // 1000} s"
        if self.cleaned_data["scope"] == "resume":
            back = ""
        reason = self.cleaned_data["reason"]
        return " ".join(part for part in (told, f"({back})" if back else "", f"Reason: {reason}" if reason else "") if part)


def command_of(target: Target, form: ClosingForm, by: str) -> tuple[Close | Drain, str]:
    """What to tell the processes, and what that is in words."""
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
