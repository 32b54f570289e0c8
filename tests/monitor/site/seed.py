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
}


def seed() -> None:
    """Fill the database."""
    from django.contrib.auth.models import Permission, User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("admin", password="secret")
    for name, codenames in PERMISSIONS.items():
        user = User.objects.create_user(name, password="secret", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label__in=APPS))
    for name in ("alice", "bob", "carol", "dan"):
        User.objects.create_user(name, password="secret")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.monitor.site.settings")
    django.setup()
    seed()
