"""Users that have nothing of Django's but what it asks for: no permissions, no hash of a session, keys that are UUIDs."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import Group
from django.db import models


class Tenant(models.Model):
    """Whose users these are; they go with it."""

    class Meta:
        app_label = "own"

    def __str__(self) -> str:
        return f"tenant {self.pk}"


class Person(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, unique=True)
    is_active = models.BooleanField(default=True)
    last_login = models.DateTimeField(null=True)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True)
    groups = models.ManyToManyField(Group, through="Membership", through_fields=("person", "group"))

    USERNAME_FIELD = "name"
    REQUIRED_FIELDS: tuple[str, ...] = ()
    is_anonymous = False
    is_authenticated = True

    class Meta:
        app_label = "own"

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """Who is in which group, and by whose word."""

    person = models.ForeignKey(Person, models.CASCADE)
    group = models.ForeignKey(Group, models.CASCADE)
    invited_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        app_label = "own"

    def __str__(self) -> str:
        return f"{self.person} in {self.group}"


class Member(Person):
    """The same ones."""

    class Meta:
        app_label = "own"
        proxy = True

    def __str__(self) -> str:
        return self.name


class Team(Group):
    """Groups as a project shows them in its own part of the admin."""

    class Meta:
        app_label = "own"
        proxy = True

    def __str__(self) -> str:
        return self.name
