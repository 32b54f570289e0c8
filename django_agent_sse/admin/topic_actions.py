"""What staff may do to a topic: each with a form, a permission of its own, and a line in the admin's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.eventlog.records import TopicState
from django_agent_sse.eventlog.validation import valid_reason
from django_agent_sse.exceptions import AgentSSEError, TopicNameInvalid
from django_agent_sse.models import LogTopic
from django_agent_sse.runs.topic import Topic
from django_agent_sse.wire import Event


class PublishForm(forms.Form):
    """A test event."""

    event = forms.CharField(label="Event", required=False, max_length=100, strip=True)
    text = forms.CharField(label="Data", max_length=65_536, widget=forms.Textarea(attrs={"rows": 3}), strip=False)

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        try:
            found["made"] = Event(found.get("text", "").replace("\r\n", "\n"), event=found.get("event") or None)
        except AgentSSEError as error:
            raise forms.ValidationError(str(error)) from error
        return found


class CloseForm(forms.Form):
    """Why."""

    reason = forms.CharField(label="Reason", max_length=200, initial="completed", strip=True)

    def clean_reason(self) -> str:
        try:
            return valid_reason(self.cleaned_data["reason"])
        except TopicNameInvalid as error:
            raise forms.ValidationError(str(error)) from error


class TrimForm(forms.Form):
    """How much stays."""

    keep = forms.IntegerField(label="Events that stay, the newest", min_value=0, max_value=2**53, initial=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing.

    Attributes:
        name: In the address.
        label: On the button.
        permission: The one of its own.
        form: What it must be told.
        body: Does it; returns what was done, in words, without a word of what was published.
        warning: What cannot be undone, asked about before; empty where nothing is lost.
        open_only: Of a topic that is not closed.
    """

    name: str
    label: str
    permission: str
    form: type[forms.Form]
    body: Callable[[str, dict[str, Any]], str]
    warning: str = ""
    open_only: bool = False

    def fits(self, state: TopicState) -> bool:
        """Whether there is anything to do."""
        return not (self.open_only and state.closed is not None)

    @property
    def button(self) -> str:
        """What does it; with dots where it is asked for once more."""
        return f"{self.label}…" if self.warning else self.label.partition(" ")[0]

    @property
    def blank(self) -> forms.Form:
        """For a page."""
        return self.form(auto_id=f"{self.name}-%s")


def _publish(name: str, given: dict[str, Any]) -> str:
    event: Event = given["made"]
    position = Topic(name).publish(event)
    return f"Published an event ({event.event or 'without a name'}, {len(event.data)} characters) as {position}."


def _close(name: str, given: dict[str, Any]) -> str:
    done = Topic(name).close(given["reason"])
    return f"Closed ({given['reason']})." if done else "It was closed already."


def _trim(name: str, given: dict[str, Any]) -> str:
    dropped = event_log().trim(name, max_events=given["keep"]) if given["keep"] else _trim_all(name)
    return f"Trimmed to the last {given['keep']:,} events: {dropped:,} were dropped."


def _trim_all(name: str) -> int:
    return event_log().trim(name, max_age=0)


def _delete(name: str, given: dict[str, Any]) -> str:
    return "Deleted." if Topic(name).delete() else "It was deleted already."


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="publish",
            label="Publish a test event",
            permission="publish_logtopic",
            form=PublishForm,
            body=_publish,
            open_only=True,
        ),
        Verb(
            name="trim",
            label="Trim",
            permission="trim_logtopic",
            form=TrimForm,
            body=_trim,
            warning="The older events are dropped for good. Clients that come back to them are told that they were trimmed.",
        ),
        Verb(
            name="close",
            label="Close",
            permission="close_logtopic",
            form=CloseForm,
            body=_close,
            warning="It takes no more events: who publishes to it gets an error, and who follows it ends after the last event.",
            open_only=True,
        ),
        Verb(
            name="delete",
            label="Delete",
            permission="delete_logtopic",
            form=forms.Form,
            body=_delete,
            warning="All its events are lost. Who follows it ends; the next event begins a new topic of that name.",
        ),
    )
}


def do(request: HttpRequest, verb: Verb, name: str, given: dict[str, Any]) -> bool:
    """Do it, write it down and tell; whether there is still such a topic."""
    try:
        told = verb.body(name, given)
    except AgentSSEError as error:
        messages.error(request, f"Nothing was done: {public_words(error)}")
        return True
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type_id=ContentType.objects.get_for_model(LogTopic).pk,
        object_id=name,
        object_repr=name[:200],
        action_flag=DELETION if verb.name == "delete" else CHANGE,
        change_message=told,
    )
    messages.success(request, f"{name}: {told}")
    return verb.name != "delete"
