"""Prints as JSON what became of the streams of each way to lose access."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "tests.access.own.__main__.by_token",
]


def by_token(get_response: Any) -> Any:
    """Know a ``Member``, the proxy, by a header."""

    def middleware(request: Any) -> Any:
        from .models import Member

        if name := request.headers.get("X-Name"):
            request.user = Member.objects.get(name=name)
        return get_response(request)

    return middleware


async def measure() -> dict[str, list[Any]]:
    from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, logout
    from django.contrib.auth.models import Group
    from django.contrib.sessions.backends.cache import SessionStore
    from django.http import HttpRequest

    from django_agent_sse import Context, Router, login_required
    from tests.access.people import PATIENCE, opened, waiting
    from tests.serving import ask, served

    from .models import Membership, Person, Team, Tenant

    async def has_a_team(c: Context) -> bool:
        user: Any = c.user
        return await Group.objects.filter(name=user.name).aexists()

    async def is_in_a_group(c: Context) -> bool:
        user: Any = c.user
        return await user.groups.aexists()

    def signed_in(name: str) -> tuple[Any, Any]:
        Team.objects.create(name=name)
        person = Person.objects.create(name=name, tenant=Tenant.objects.create())
        Membership.objects.create(person=person, group=everybody)
        session = SessionStore()  # as Django's login() makes it for a user without a hash
        session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(person.pk), "django.contrib.auth.backends.ModelBackend"
        session.save()
        return person, session

    def signs_out(person: Any, session: Any) -> None:
        request = HttpRequest()
        request.session, request.user = SessionStore(session.session_key), person
        logout(request)

    def deactivated(person: Any, session: Any) -> None:
        person.is_active = False
        person.save()

    def handed_over(person: Any, session: Any) -> None:
        membership = Membership.objects.get(person=person)
        membership.person = Person.objects.create(name=f"heir of {person}")
        membership.save()

    everybody = await Group.objects.acreate(name="everybody")
    changes: dict[str, Callable[[Any, Any], object]] = {
        "deactivated": deactivated,
        "deleted with what they belong to": lambda person, session: person.tenant.delete(),
        "signs out": signs_out,
        "group deleted by its proxy": lambda person, session: Team.objects.get(name=person.name).delete(),
        "membership deleted": lambda person, session: Membership.objects.filter(person=person).delete(),
        "membership handed over": handed_over,
    }
    found: dict[str, list[Any]] = {}
    router = Router(recheck=None)
    router.sse("here/", waiting, guards=[login_required, has_a_team, is_in_a_group])
    with served(router, middleware=MIDDLEWARE):
        for how in ("session", "proxy"):
            for number, (change, happens) in enumerate(changes.items()):
                if (how, change) == ("proxy", "signs out"):
                    continue
                name = f"{how} {number}"
                person, session = await sync_to_async(signed_in)(name)
                other, others = await sync_to_async(signed_in)(f"another {name}")
                tokens = {"X-Name": name} if how == "proxy" else {}
                mine = await opened("/here/", None if tokens else session, headers=tokens)
                theirs = await opened("/here/", None if tokens else others, headers=tokens and {"X-Name": other.name})
                await sync_to_async(happens)(person, session)
                await mine.over(PATIENCE)
                end = (await mine.rest())[-1].data
                cookie = {"Cookie": f"sessionid={session.session_key}"}
                again = (await ask("/here/", headers=cookie)).status if how == "session" else None
                found[f"{how}: {change}"] = [end, again, theirs.complete]
                theirs.leave()
                await theirs.over(PATIENCE)
    return found


def main() -> None:
    settings.configure(
        SECRET_KEY="own",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.access.own",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_agent_sse", "tests.access.own"],
        MIGRATION_MODULES={"auth": None, "contenttypes": None},  # a proxy cannot stand on them where it has none itself
        MIDDLEWARE=MIDDLEWARE,
        AUTH_USER_MODEL="own.Person",
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1], "OPTIONS": {"timeout": 20}}},
        AGENT_SSE={"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    call_command("migrate", verbosity=0, run_syncdb=True)
    print(json.dumps(asyncio.run(measure())))


if __name__ == "__main__":
    main()
