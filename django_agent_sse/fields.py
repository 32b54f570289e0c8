"""A column for texts that are told apart, and sorted, by their bytes."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

_BY_BYTES = {"postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}
"""Collations; what is not here compares bytes by itself, as SQLite does. ``utf8mb4_bin`` leaves spaces at the end out."""


class ExactField(models.CharField):  # type: ignore[type-arg]
    """Printable ASCII. ``a`` is not ``A``, and ranges are prefixes, whatever the collation of the database."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        name = connection.vendor
        if name == "mysql" and connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            name = "mariadb"
        return {**super().db_parameters(connection), "collation": _BY_BYTES.get(name)}
