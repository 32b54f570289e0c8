"""A URLconf that has a name: what the page for WSGI guesses the ASGI application from."""

from __future__ import annotations

from django_agent_sse import Context, Router, Stream

router = Router()


@router.sse("")
async def hello(c: Context, stream: Stream) -> None:
    """Never runs under WSGI."""


urlpatterns = router.urls
