"""What the pages say of access is so: their own functions end streams, say who may follow what, and take addresses back."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Group
from django.test import override_settings

from django_agent_sse import Router
from tests.access.changes import MIDDLEWARE, person, sign_in
from tests.access.people import leave, opened, revoked, waiting
from tests.serving import ask, served

from . import pages
from .blocks import PAGES, name_of

pytestmark = pytest.mark.django_db(transaction=True)
PATHS = {name_of(page): page for page in PAGES}


@pytest.fixture
def guards() -> Iterator[dict[str, ModuleType]]:
    with pages.imported(PATHS["docs/howto/guards.rst"]) as found:
        yield found


async def test_streams_of_a_user_and_of_a_topic_are_ended_as_the_page_does_it(guards: dict[str, ModuleType]) -> None:
    router, support = Router(), guards["mysite/support.py"]
    router.sse("mine/", waiting, name="mine")
    router.sse("follow/", _follow_build, name="follow")
    ann, ben = [await sync_to_async(person)(name) for name in ("ann", "ben")]
    sessions = [await sync_to_async(sign_in)(user) for user in (ann, ben)]
    with served(router, middleware=MIDDLEWARE):
        hers, his = [await opened("/mine/", session) for session in sessions]
        await sync_to_async(support.lock)(ann)
        await revoked(hers)
        await leave(his)
        await sync_to_async(ann.refresh_from_db)()
        assert not ann.is_active
        reader, other = await opened("/follow/?pk=7"), await opened("/follow/?pk=8")
        await support.archive(SimpleNamespace(pk=7))
        await revoked(reader)
        await leave(other)


async def _follow_build(c: Any, stream: Any) -> None:
    await stream.write("hello")
    await stream.follow(f"builds.{c.query['pk']}")


def test_the_table_of_the_page_says_who_may_follow_what(guards: dict[str, ModuleType]) -> None:
    can_follow = guards["mysite/access.py"].can_follow
    group = Group.objects.create(name="staff")
    ann, ben, nobody = person("ann", permitted=True), person("ben"), AnonymousUser()
    topics = ["news", f"users.{ann.pk}", f"groups.{group.pk}", "groups.4711", "audit", "another"]
    assert [can_follow(ann, topic) for topic in topics] == [True, True, True, False, False, False]
    assert [can_follow(ben, topic) for topic in topics] == [True, False, False, False, False, False]
    assert [can_follow(nobody, topic) for topic in topics] == [True, False, False, False, False, False]


async def test_an_address_of_the_page_opens_a_stream_until_its_user_signs_out() -> None:
    with pages.imported(PATHS["docs/howto/signed-urls.rst"]) as found, override_settings(MIDDLEWARE=MIDDLEWARE):
        ann = await sync_to_async(person)("ann")
        session = await sync_to_async(sign_in)(ann)
        feeds = found["mysite/feeds.py"]
        with served(found["mysite/urls.py"].urlpatterns, middleware=MIDDLEWARE):
            cookie = {"Cookie": f"sessionid={session.session_key}"}
            url = (await ask("/inbox-address/", headers=cookie)).json()["url"]
            assert (await ask(url)).data == ["hello ann"]
            assert (await ask("/prices/")).status == 401
            await sync_to_async(feeds.forget_addresses)(ann)
            assert (await ask(url)).status == 401
