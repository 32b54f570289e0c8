"""Tenants, in the public schema, and what each has in its own."""

from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    """A tenant."""

    name = models.CharField(max_length=100)
    auto_create_schema = False


class Domain(DomainMixin):
    """Its host name."""
