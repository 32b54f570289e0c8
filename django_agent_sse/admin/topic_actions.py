"""What staff may do to a topic: each is a form, with a permission of its own."""

from __future__ import annotations

from typing import Any

from django import forms

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.records import TopicState
from django_agent_sse.eventlog.validation import valid_reason
from django_agent_sse.exceptions import AgentSSEError, TopicNameInvalid
from django_agent_sse.runs.state import RunState
from django_agent_sse.runs.topic import Topic
from django_agent_sse.wire import Event


class TopicAction(forms.Form):
    """One action, by the permission ``<name>_logtopic``.

    Attributes:
        name: In the address.
        label: Above the form.
        warning: What cannot be undone, asked about before; empty where nothing is lost.
        open_only: For topics that are not closed.
        run_only: For topics that a run writes now.
    """

    name = label = warning = ""
    open_only = run_only = False

    @classmethod
    def fits(cls, state: TopicState, run: RunState | None) -> bool:
        """Whether there is anything to do."""
        goes_on = run is not None and run.ending is None
        return not (cls.open_only and state.closed is not None) and (goes_on or not cls.run_only)

    @property
    def button(self) -> str:
        """The label of the button; with dots where the page asks once more."""
        return f"{self.label}…" if self.warning else self.label.partition(" ")[0]

    def perform(self, topic: str) -> str:
        """Do it. Return what was done, in words, without a word of what was published.

        Raises:
            AgentSSEError: It could not be done.
        """
        raise NotImplementedError


class PublishForm(TopicAction):
    """Publish a test event."""

    name, label, open_only = "publish", "Publish a test event", True

    event = forms.CharField(label="Event", required=False, max_length=100, strip=True)
    text = forms.CharField(label="Data", max_length=65_536, widget=forms.Textarea(attrs={"rows": 3}), strip=False)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        try:
            values["made"] = Event(values.get("text", "").replace("\r\n", "\n"), event=values.get("event") or None)
        except AgentSSEError as error:
            raise forms.ValidationError(str(error)) from error
        return values

    def perform(self, topic: str) -> str:
        event: Event = self.cleaned_data["made"]
        position = Topic(topic).publish(event)
        return f"Published an event ({event.event or 'without a name'}, {len(event.data)} characters) as {position}."


class TrimForm(TopicAction):
    """Drop the older events."""

    name, label = "trim", "Trim"
    warning = "Older events are lost for good. Clients that reconnect from one of them are told of the gap."

    keep = forms.IntegerField(label="Newest events to keep", min_value=0, max_value=2**53, initial=1000)

    def perform(self, topic: str) -> str:
        keep = self.cleaned_data["keep"]
        dropped = event_log().trim(topic, max_events=keep) if keep else event_log().trim(topic, max_age=0)
        return f"Trimmed to the last {keep:,} events: {dropped:,} were dropped."


class StopForm(TopicAction):
    """Stop the run that writes the topic; by its id, so that none is stopped that has begun since the page was seen."""

    name, label, run_only = "stop", "Stop the run", True
    warning = "The run is asked to end: what it has written stays, nothing more comes, and its readers see that it was stopped."

    run = forms.CharField(label="Run", max_length=200, widget=forms.HiddenInput)

    def perform(self, topic: str) -> str:
        before = Topic(topic).run_state()
        run = Topic(topic).stop_run(self.cleaned_data["run"])
        if before is not None and before.id == run.id and before.ending is not None:
            return f"The run {run.id} is over ({run.ending})."
        return f"Asked the run {run.id} to stop."  # and perhaps it has: what the log says is who asked


class CloseForm(TopicAction):
    """Close the topic, with a reason."""

    name, label, open_only = "close", "Close", True
    warning = "The topic takes no more events: publishing to it is an error, and streams that follow it end after the last event."

    reason = forms.CharField(label="Reason", max_length=200, initial="completed", strip=True)

    def clean_reason(self) -> str:
        try:
            return valid_reason(self.cleaned_data["reason"])
        except TopicNameInvalid as error:
            raise forms.ValidationError(str(error)) from error

    def perform(self, topic: str) -> str:
        reason = self.cleaned_data["reason"]
        return f"Closed ({reason})." if Topic(topic).close(reason) else "It was closed already."


class DeleteForm(TopicAction):
    """Delete the topic."""

    name, label = "delete", "Delete"
    warning = "All its events are lost. Streams that follow it end; the next event begins a new topic of that name."

    def perform(self, topic: str) -> str:
        return "Deleted." if Topic(topic).delete() else "It was deleted already."


ACTIONS: dict[str, type[TopicAction]] = {
    action.name: action for action in (PublishForm, StopForm, TrimForm, CloseForm, DeleteForm)
}
