"""What Django's admin and its permissions need a model for. There is no table of the package's own."""

from __future__ import annotations

from typing import Any

from django.db import models


class _Nothing(models.Manager["KeyValueStore"]):
    def get_queryset(self) -> models.QuerySet[KeyValueStore]:
        return super().get_queryset().none()


class KeyValueStore(models.Model):
    """The page "Key-value store" of the admin: its place in the index, and the permission to see it.

    Never has rows, and never asks the database for any: ``dumpdata`` reads unmanaged models too.
    """

    objects: models.Manager[Any] = _Nothing()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view",)
        verbose_name = "key-value store"
        verbose_name_plural = "key-value store"

    def __str__(self) -> str:
        return "key-value store"
