"""The lines for OpenAI, Anthropic, LangGraph and Pydantic AI give a run the whole text, once, and give back what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_agent_sse import Topic, produce
from django_agent_sse.eventlog import backend
from django_agent_sse.runs.endings import RunEnding
from tests.generators import leaving_none_open
from tests.inprocess import eventually
from tests.site import settings as site

from . import asking, pages
from .blocks import DOCS
from .model_servers import ENDLESS, PIECES, TEXT, ModelServer, model_server

PAGE = DOCS / "howto" / "llm-chat.rst"
SOURCES = ["openai", "anthropic", "langgraph", "pydantic_ai"]
QUESTION = [{"role": "user", "content": "Wo?"}]
MODELS = {"openai": '"gpt-5.5"', "anthropic": '"claude-sonnet-5-5"'}
"""What the page asks for. Here it is another one, for which a new client cannot warn that it has grown old."""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def modules(server: ModelServer, settings: Any) -> Iterator[dict[str, ModuleType]]:
    settings.ROOT_URLCONF = pages.URLCONF
    settings.MIDDLEWARE = [name for name in site.MIDDLEWARE_SETS["default"] if "Csrf" not in name]
    backend.reset()
    from pydantic_ai.models.function import FunctionModel  # it takes seconds

    with pages.imported(PAGE) as modules:
        vars(modules["mysite/with_pydantic_ai.py"])["agent"].model = FunctionModel(stream_function=said)
        yield modules
    backend.reset()


async def said(messages: object, info: object) -> Any:
    for piece in PIECES:
        yield piece


@pytest.mark.parametrize("name", SOURCES)
async def test_a_run_has_the_text_of_the_model(modules: dict[str, ModuleType], name: str) -> None:
    source = modules[f"mysite/with_{name}.py"]
    if name in MODELS:
        vars(source).update(_with_model(name, "m"))
    async with produce("chat", last=lambda ending: [ending]) as run:
        count = await run.pipe(source.answer(QUESTION))
        assert await run.text() == ("Grüße aus Köln" if name == "langgraph" else TEXT)
    assert count > 1 or name == "pydantic_ai", "in pieces, which that one joins"
    assert [event.data for event in await Topic("chat").aread()][-1] == "finished"


@pytest.mark.parametrize("name", MODELS)
async def test_who_stops_gives_the_connection_back(modules: dict[str, ModuleType], server: ModelServer, name: str) -> None:
    source = modules[f"mysite/with_{name}.py"]
    vars(source).update(_with_model(name, ENDLESS))
    async with leaving_none_open():
        async with aclosing(source.answer(QUESTION)) as pieces:
            async for piece in pieces:
                assert piece == PIECES[0]
                break
            assert not server.left.is_set()
        assert await sync_to_async(server.left.wait)(30)


def _with_model(name: str, model: str) -> dict[str, Any]:
    """The page's code for another model."""
    (block,) = (block for block in pages._in_order(PAGE) if block.file == f"mysite/with_{name}.py")
    assert MODELS[name] in block.text
    found: dict[str, Any] = {}
    exec(compile(block.text.replace(MODELS[name], f'"{model}"'), str(block), "exec"), found)
    return found


async def test_the_answer_is_saved_whatever_the_ending(modules: dict[str, ModuleType]) -> None:
    said = asyncio.Event()
    store = modules["mysite/store.py"]

    async def answer(messages: list[Any]) -> Any:
        assert messages == [{"chat": "7", "role": "user", "content": "why?"}]
        yield "Be"
        said.set()
        await asyncio.Event().wait()

    vars(modules["mysite/saving.py"])["answer"] = answer
    vars(pages.sys.modules[pages.URLCONF])["urlpatterns"] = [
        pages.path("", pages.include(modules["mysite/saving.py"].router.urls))
    ]
    started = await asking.ask("POST", "/saved/7/", headers={"prefer": "respond-async"}, body=b'{"text": "why?"}')
    assert started.status == 202
    await said.wait()
    location = started.headers["Location"]
    assert (await asking.ask("POST", f"{location}stop")).status in (200, 202)
    assert (await asking.ask("GET", location)).body.startswith("retry: 3000\ndata: Be\n")
    await eventually("it is saved once it has ended", lambda: len(store.messages) == 2)
    assert store.messages[1:] == [{"chat": "7", "role": "assistant", "content": "Be"}]
    assert (await asking.ask("GET", "/saved/7/")).status == 204, "it is over, and shown from what was saved"


async def test_a_model_that_fails_on_purpose_says_what_the_code_says(modules: dict[str, ModuleType]) -> None:
    async def slow(messages: list[Any]) -> Any:
        raise TimeoutError
        yield

    vars(modules["mysite/careful.py"])["answer"] = slow
    careful = modules["mysite/careful.py"].careful
    assert careful.__name__ == "careful"

    class Context:
        async def json_body(self) -> dict[str, str]:
            return {"text": "why?"}

    async with produce("careful") as run:
        await careful(Context(), run, "7")
    (event,) = await Topic("careful").aread()
    assert (event.event, event.data) == ("problem", '{"reason":"the model took too long"}')
    assert run.ending is RunEnding.FINISHED


async def test_an_upstream_that_is_an_event_stream_is_written_anew(modules: dict[str, ModuleType]) -> None:
    async with produce("proxied") as run:
        await modules["mysite/proxy.py"].proxied(None, run, "7")
    assert [event.data for event in await Topic("proxied").aread()] == ['{"delta": "It depends."}', "[DONE]"]
