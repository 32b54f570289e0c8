"""What is known of a build when its process is gone."""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

from django_agent_sse import Topic

from .recipes import all_recipes


def _who(related_name: str) -> models.ForeignKey[Any, Any]:
    user = settings.AUTH_USER_MODEL
    return models.ForeignKey(user, models.SET_NULL, null=True, blank=True, editable=False, related_name=related_name)


class Build(models.Model):
    """One run of a recipe, or of a command that somebody gave in a terminal. Its lines are a topic, see ``builds.log``."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        """As many builds run as may at a time."""
        RUNNING = "running"
        PASSED = "passed"
        FAILED = "failed"
        CANCELLED = "cancelled"
        LOST = "lost"
        """The process that ran it ended without recording the build's end: it was killed, or the machine was."""

    recipe = models.CharField(max_length=64, blank=True)
    command = models.JSONField(default=list, blank=True, editable=False)
    """The arguments, where no recipe has them."""
    status = models.CharField(max_length=16, choices=Status, default=Status.QUEUED)
    started_by = _who("started_builds")
    cancelled_by = _who("cancelled_builds")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    exit_code = models.IntegerField(null=True, blank=True, help_text="Negative: the signal that ended the process.")
    lines = models.PositiveIntegerField(default=0)
    cancelling = models.BooleanField(default=False, editable=False)
    fraction = models.FloatField(null=True, editable=False)
    step = models.CharField(max_length=255, blank=True, editable=False)
    """How far it is while it runs, see ``builds.progress``."""
    usual = models.FloatField(null=True, editable=False)
    """Seconds that earlier builds of the recipe took."""

    class Meta:
        ordering: ClassVar[list[str]] = ["-pk"]

    def __str__(self) -> str:
        return f"{self.label} #{self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("build", args=[self.pk])

    @property
    def label(self) -> str:
        """The recipe's label, or its name where settings know it no more; or the command."""
        recipe = all_recipes().get(self.recipe)
        return recipe.label if recipe else self.recipe or shlex.join(self.command)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; ``None`` while it runs, and where it never did."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None

    @property
    def is_over(self) -> bool:
        """Whether it has an end, of whatever kind."""
        return self.status not in (self.Status.QUEUED, self.Status.RUNNING)


class ApiKey(models.Model):
    """A key with which a program sees what its owner may see. The key itself is kept nowhere."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_keys", editable=False)
    name = models.CharField(max_length=64, help_text="What it is for: “the deploy script”.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar[list[str]] = ["-pk"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.name

    def renew(self) -> str:
        """Make a new key, and return it: the only time that it can be seen. Save the model then."""
        key = secrets.token_urlsafe(32)
        self.digest = self.digest_of(key)
        return key

    @staticmethod
    def digest_of(key: str) -> str:
        """What is stored of a key. It is random and long, so that a fast hash without salt is enough."""
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Exchange(models.Model):
    """A question of somebody's, and what the agent has made of it."""

    TOPICS = "chat"
    """What the names of the runs' topics begin with."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="exchanges", editable=False)
    run = models.CharField(max_length=64, unique=True)
    question = models.TextField()
    answer = models.TextField(blank=True)
    steps = models.JSONField(default=list, blank=True)
    """What tools were asked and have said, and at which character of the answer."""
    ending = models.CharField(max_length=64, blank=True)
    """Empty while the run goes on."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar[list[str]] = ["-pk"]

    def __str__(self) -> str:
        return self.question

    @property
    def topic(self) -> Topic:
        """Where its run writes."""
        return Topic(f"{self.TOPICS}.{self.run}")

    def settle(self) -> None:
        """Keep what the run has written, once it is over. Whoever looks does that where its process was killed."""
        if self.ending:
            return
        state = self.topic.run_state()
        if state is not None and state.ending is None:
            return
        self.ending = "lost" if state is None or state.ending is None else state.ending
        for event in self.topic.follow() if state is not None else ():
            if event.event is None:
                self.answer += event.data
            elif event.event == "step":
                self._take(json.loads(event.data))
        kept = {name: getattr(self, name) for name in ("ending", "answer", "steps")}
        type(self).objects.filter(pk=self.pk).update(**kept)  # nothing where it was deleted meanwhile

    def _take(self, step: dict[str, Any]) -> None:
        if self.steps and self.steps[-1]["name"] == step["name"] and self.steps[-1]["said"] is None:
            self.steps.pop()  # what the tool has said takes the place of what it was asked
        self.steps.append({**step, "at": len(self.answer)})

    def told(self) -> dict[str, object]:
        """What the page is told of it."""
        return {name: getattr(self, name) for name in ("run", "question", "answer", "steps", "ending")}
