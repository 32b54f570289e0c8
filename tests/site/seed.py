"""``python -m tests.site.seed``: migrate ``SITE_DATABASE``, fill it, and print what a test must know as JSON."""

from __future__ import annotations

import json
import os

import django

USERS = 500


def seed() -> dict[str, object]:
    """Create ``USERS`` users and one session of the first; return the session's key."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    user_model = get_user_model()
    user_model.objects.bulk_create(user_model(username=f"user-{number:03}", password="!") for number in range(USERS))
    reader = user_model.objects.get(username="user-000")
    session = SessionStore()
    session.update(
        {
            SESSION_KEY: str(reader.pk),
            BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
            HASH_SESSION_KEY: reader.get_session_auth_hash(),
            "colour": "green",
        }
    )
    session.create()
    return {"session": session.session_key, "users": USERS}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")
    django.setup()
    print(json.dumps(seed()))
