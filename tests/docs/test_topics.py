"""The page about topics: what it prints is what a client gets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse.eventlog import backend
from tests.site import settings as site

from . import asking, pages
from .blocks import DOCS, blocks_of
from .middleware import ACTS_AS_STAFF

PAGE = DOCS / "topics" / "topics.rst"


@pytest.fixture(autouse=True)
def project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = pages.URLCONF
    settings.MIDDLEWARE = [*site.MIDDLEWARE_SETS["default"], "tests.docs.middleware.acting"]
    backend.reset()
    yield
    backend.reset()


@pytest.mark.django_db(transaction=True)
async def test_a_build_reads_as_the_page_says() -> None:
    (shown,) = [block.text for block in blocks_of(PAGE) if "event: step" in block.text]
    with pages.imported(PAGE):
        assert (await asking.ask("GET", "/builds/42/run/", headers=ACTS_AS_STAFF)).status == 405, "nobody starts it by looking"
        token = {"cookie": f"csrftoken={'a' * 32}", "x-csrftoken": "a" * 32}
        assert (await asking.ask("POST", "/builds/42/run/", headers={**ACTS_AS_STAFF, **token})).status == 204
        got = await asking.ask("GET", "/builds/42/logs/", headers={**ACTS_AS_STAFF, "Accept": "text/event-stream"})
    body = re.sub(r"[A-Za-z]{8}\.(\d)", r"kQzTbWpa.\1", got.body).removeprefix(":\n")
    assert body.strip() == shown.strip()
