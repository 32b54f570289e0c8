"""What staff may do to a topic: each is a form, with a permission of its own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.records import TopicState
from django_agent_sse.eventlog.validation import valid_reason
from django_agent_sse.exceptions import AgentSSEError, TopicNameInvalid
from django_agent_sse.runs.state import RunState
from django_agent_sse.runs.topic import Topic
from django_agent_sse.runtime.formatting import number
from django_agent_sse.wire import Event


class TopicAction(forms.Form):
    """One action, by the permission ``<name>_logtopic``.

    Attributes:
        name: In the address.
        label: Above the form.
        verb: On the button.
        warning: What cannot be undone, asked about before; empty where nothing is lost.
        open_only: For topics that are not closed.
        run_only: For topics that a run writes now.
    """

    name = ""
    label: str | Promise = ""
    verb: str | Promise = ""
    warning: str | Promise = ""
    open_only = run_only = False

    @classmethod
    def fits(cls, state: TopicState, run: RunState | None) -> bool:
        """Whether there is anything to do."""
        goes_on = run is not None and run.ending is None
        return not (cls.open_only and state.closed is not None) and (goes_on or not cls.run_only)

    @property
    def button(self) -> str:
        """The label of the button; with dots where the page asks once more."""
        return f"{self.verb}…" if self.warning else str(self.verb)

    def perform(self, topic: str) -> str:
        """Do it. Return what was done, in words, without a word of what was published.

        Raises:
            AgentSSEError: It could not be done.
        """
        raise NotImplementedError


class PublishForm(TopicAction):
    """Publish a test event."""

    name, label, verb, open_only = "publish", _("Publish a test event"), _("Publish"), True

    event = forms.CharField(label=_("Event"), required=False, max_length=100, strip=True)
    text = forms.CharField(label=_("Data"), max_length=65_536, widget=forms.Textarea(attrs={"rows": 3}), strip=False)

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
        size = len(event.data)
        done = ngettext(
            "Published an event ({name}, {count} character) as {position}.",
            "Published an event ({name}, {count} characters) as {position}.",
            size,
        )
        return done.format(name=event.event or gettext("without a name"), count=number(size), position=position)


class TrimForm(TopicAction):
    """Drop the older events."""

    name, label, verb = "trim", _("Trim"), _("Trim")
    warning = _("Older events are lost for good. Clients that reconnect from one of them are told of the gap.")

    keep = forms.IntegerField(label=_("Newest events to keep"), min_value=0, max_value=2**53, initial=1000)

    def perform(self, topic: str) -> str:
        keep = self.cleaned_data["keep"]
        dropped = event_log().trim(topic, max_events=keep) if keep else event_log().trim(topic, max_age=0)
        kept = ngettext("Trimmed to the last {count} event.", "Trimmed to the last {count} events.", keep)
        gone = ngettext("{count} was dropped.", "{count} were dropped.", dropped)
        return f"{kept.format(count=number(keep))} {gone.format(count=number(dropped))}"


class StopForm(TopicAction):
    """Stop the run that writes the topic; by its id, so that none is stopped that has begun since the page was seen."""

    name, label, verb, run_only = "stop", _("Stop the run"), _("Stop the run"), True
    warning = _(
        "The run is asked to end: what it has written stays, nothing more comes, and its readers see that it was stopped."
    )

    run = forms.CharField(label=_("Run"), max_length=200, widget=forms.HiddenInput)

    def perform(self, topic: str) -> str:
        before = Topic(topic).run_state()
        run = Topic(topic).stop_run(self.cleaned_data["run"])
        if before is not None and before.id == run.id and before.ending is not None:
            return gettext("The run {run} is over ({ending}).").format(run=run.id, ending=run.ending)
        # And perhaps it has stopped: what the log says is who asked.
        return gettext("Asked the run {run} to stop.").format(run=run.id)


class CloseForm(TopicAction):
    """Close the topic, with a reason."""

    name, label, verb, open_only = "close", _("Close"), _("Close"), True
    warning = _(
        "The topic takes no more events: publishing to it is an error, and streams that follow it end after the last event."
    )

    reason = forms.CharField(label=_("Reason"), max_length=200, initial="completed", strip=True)

    def clean_reason(self) -> str:
        try:
            return valid_reason(self.cleaned_data["reason"])
        except TopicNameInvalid as error:
            raise forms.ValidationError(str(error)) from error

    def perform(self, topic: str) -> str:
        reason = self.cleaned_data["reason"]
        if not Topic(topic).close(reason):
            return gettext("It was closed already.")
        return gettext("Closed ({reason}).").format(reason=reason)


class DeleteForm(TopicAction):
    """Delete the topic."""

    name, label, verb = "delete", _("Delete"), _("Delete")
    warning = _("All its events are lost. Streams that follow it end; the next event begins a new topic of that name.")

    def perform(self, topic: str) -> str:
        return gettext("Deleted.") if Topic(topic).delete() else gettext("It was deleted already.")


ACTIONS: dict[str, type[TopicAction]] = {
    action.name: action for action in (PublishForm, StopForm, TrimForm, CloseForm, DeleteForm)
}
