from __future__ import annotations
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django_agent_sse import login_required
from tests.inprocess import serve, eventually
from .people import *

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slim", [False, True])
async def test_it(slim):
    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    async def handler(c, stream):
        await stream.write("x")
        await stream.wait_closed()
    async with serve(handler, guards=[login_required], recheck=0.2, slim=slim, settings={"MIDDLEWARE": MIDDLEWARE}) as site:
        client = site.connect(headers=cookie(session))
        await client.take(1)
        from django_agent_sse.access.service import access
        book = access.book()
        await eventually("asked", lambda: book.asked >= 2)
        assert not client.complete
        await User.objects.filter(pk=user.pk).aupdate(is_active=False)
        (end,) = await client.rest()
        print(end)
        assert "revoked" in end.data
    assert not book.permits and not book._groups
