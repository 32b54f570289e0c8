"""``python -m tests.monitor.upgraded DATABASE before``, then ``… after [APP …]``: from when the monitor was a part of the core.

``before`` makes a database, with people who were granted the monitor's permissions; ``after`` migrates it with these apps
besides, and prints as JSON who may do what then. ``cleaned`` also removes what is stale, ``undone`` goes back
and forth once more.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.core.management import call_command

from .alone import configure

OLD = "django_agent_sse"


def before() -> None:
    """Migrate as far as the version before had migrations, and grant what it had to grant."""
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.auth.models import Group, Permission, User
    from django.contrib.contenttypes.models import ContentType

    for app in ("contenttypes", "auth", "admin", "sessions"):
        call_command("migrate", app, verbosity=0)
    call_command("migrate", OLD, "0004", verbosity=0)
    mine = Permission.objects.filter(content_type__app_label=OLD)
    staff = User.objects.create_user("looks", is_staff=True)
    staff.user_permissions.add(mine.get(codename="view_livestreams"))
    closers = Group.objects.create(name="closers")
    closers.permissions.set(mine.filter(codename__in=["view_livestreams", "close_livestreams", "view_logtopic"]))
    User.objects.create_user("closes", is_staff=True).groups.add(closers)
    kind = ContentType.objects.get(app_label=OLD, model="livestreams")
    LogEntry.objects.create(
        user=staff, content_type=kind, object_id="1", object_repr="Closed all streams of x.", action_flag=CHANGE
    )


def after() -> dict[str, Any]:
    """Migrate, and look."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.auth.models import Permission, User
    from django.contrib.contenttypes.models import ContentType
    from django.test import Client

    call_command("migrate", verbosity=0)
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
    client = Client()
    client.force_login(looks := User.objects.get(username="looks"))
    closes = User.objects.get(username="closes")
    return {
        "looks": sorted(looks.get_all_permissions()),
        "closes": sorted(closes.get_all_permissions()),
        "types": [*ContentType.objects.filter(model="livestreams").values_list("app_label", flat=True)],
        "permissions": Permission.objects.filter(codename__contains="livestreams").count(),
        "logged": [*LogEntry.objects.values_list("content_type__app_label", flat=True)],
        "index": client.get("/admin/").status_code,
        "page": client.get("/admin/agent_sse_monitor/livestreams/").status_code,
    }


if __name__ == "__main__":
    database, step, *more = sys.argv[1:]
    configure(database, more)
    django.setup()
    if step == "before":
        before()
    else:
        if step == "undone":
            call_command("migrate", "agent_sse_monitor", "zero", verbosity=0)
        print(json.dumps(after()))
        if step == "cleaned":
            call_command("remove_stale_contenttypes", include_stale_apps=True, interactive=False, verbosity=0)
            print(json.dumps(after()))
