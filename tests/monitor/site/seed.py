"""``python -m tests.monitor.site.seed``: migrate, and make people with different permissions, whose password is ``secret``."""

from __future__ import annotations

import os

import django

APPS = ("django_agent_sse", "agent_sse_monitor")
PERMISSIONS = {
    "looks": ["view_livestreams", "view_logtopic"],
    "closes": ["view_livestreams", "close_livestreams"],
    "exports": ["view_livestreams", "export_livestreams"],
    "stops": ["view_logtopic", "stop_logtopic", "view_payloads"],
    "reads": ["view_livestreams", "view_logtopic", "view_payloads"],
    "nothing": [],
    "leaves": ["view_livestreams"],
}
HOSTILE = '<img src=x onerror="window.hit=1"><b>\u202egpj.exe'
LONG_NAME = "w" * 10_000
"""Names that a project of its own may let people choose."""


def seed() -> None:
    """Fill the database."""
    from django.contrib.auth.models import Permission, User
    from django.core.management import call_command
    from django.db import transaction

    call_command("migrate", verbosity=0)
    with transaction.atomic():  # what it tells other processes is written afterwards, and not meanwhile by another thread
        User.objects.create_superuser("admin", password="secret")
        for name, codenames in PERMISSIONS.items():
            user = User.objects.create_user(name, password="secret", is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label__in=APPS))
        for name in ("alice", "bob", "carol", "dan", HOSTILE, LONG_NAME):
            User.objects.create_user(name, password="secret")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.monitor.site.settings")
    django.setup()
    seed()
