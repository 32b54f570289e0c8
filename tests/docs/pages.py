"""A page's Python files, imported as the modules of a project would be, and its addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from celery import _state as celery_state
from django.urls import URLPattern, URLResolver, get_resolver, include, path, reverse

from django_agent_sse import stream_closed, stream_opened
from tests.live.servers import ROOT

from .blocks import Block, blocks_of

if django.VERSION < (6, 0):  # as the page about them says
    sys.modules["django.tasks"] = import_module("django_tasks")

URLCONF = "docs_page_urls"
SAMPLES = {
    "int": 2,
    "str": "x",
    "slug": "x",
    "path": "x/y",
    "runid": f"run_{'x' * 16}",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


READERS_OWN = {
    "README": (
        "mysite/agent.py",
        """
async def answer(messages):
    for piece in ("You asked: ", messages[-1]["content"]):
        yield piece


from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

agent = Agent(TestModel())


@agent.tool_plain
def weather(city: str) -> str:
    return f"{city}: ☂"
""",
    ),
    "llm-chat": (
        "mysite/graph.py",
        """
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

model = GenericFakeChatModel(messages=iter([AIMessage("Grüße aus Köln")]))
talk = lambda state: {"messages": model.invoke(state["messages"])}
graph = StateGraph(MessagesState).add_node("talk", talk).add_edge(START, "talk").compile()
""",
    ),
}
"""What a page imports and says to be the reader's own, by its name: a file."""


def _in_order(page: Path) -> list[Block]:
    """The page's Python in the order of its imports: as it stands there, but addresses last."""
    own = [READERS_OWN[page.stem]] if page.stem in READERS_OWN else []
    given = [Block(page=page, line=0, language="python", file=file, text=text) for file, text in own]
    blocks = given + [block for block in blocks_of(page) if block.language == "python" and not is_settings(block.file)]
    return sorted(blocks, key=lambda block: block.file.endswith("urls.py"))


def is_settings(file: str) -> bool:
    """Whether a file of the documentation holds settings."""
    return file.endswith("settings.py")


@contextmanager
def imported(page: Path) -> Iterator[dict[str, ModuleType]]:
    """The page's files as modules, and its addresses as the module ``URLCONF``; all are gone afterwards."""
    hidden = {name: sys.modules.pop(name) for name in [*sys.modules] if _is_of_testproject(sys.modules[name])}
    before = set(sys.modules)
    modules: dict[str, ModuleType] = {}
    receivers = [(signal, list(signal.receivers)) for signal in (stream_opened, stream_closed)]
    tasks = set(celery_state._on_app_finalizers)
    try:
        for block in _in_order(page):
            modules[block.file] = _run(block)
        sys.modules[URLCONF] = _urlconf(list(modules.values()))
        yield modules
    finally:
        for name in set(sys.modules) - before:
            if name == URLCONF or getattr(sys.modules[name], "from_docs", False):
                del sys.modules[name]
        sys.modules.update(hidden)
        for signal, earlier in receivers:
            signal.receivers[:] = earlier
            signal.sender_receivers_cache.clear()
        celery_state._on_app_finalizers &= tasks  # every later app would get the tasks of this page


def _is_of_testproject(module: ModuleType) -> bool:
    """Whether a module is one of a project that has names like those on our pages, which other tests import."""
    return (getattr(module, "__file__", None) or "").startswith(f"{ROOT / 'testproject'}/")


def _run(block: Block) -> ModuleType:
    name = block.file.removesuffix(".py").replace("/", ".")
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        _enter(".".join(parents[:depth]), is_package=True)
    module = _enter(name)
    # Blank lines before the code, so that a traceback names the page's line.
    exec(compile("\n" * (block.line + 1) + block.text, str(block.page), "exec"), vars(module))
    return module


def _enter(name: str, *, is_package: bool = False) -> ModuleType:
    found = sys.modules.get(name)
    if found is not None and getattr(found, "from_docs", False):
        return found
    assert found is None, f"the documentation's {name} would hide a module that exists"
    module = sys.modules[name] = ModuleType(name)
    vars(module)["from_docs"] = True
    if is_package:
        module.__path__ = []
    return module


def _urlconf(modules: list[ModuleType]) -> ModuleType:
    """The page's own URLconf, or one of every router that it makes."""
    urlconf = ModuleType(URLCONF)
    own = [module.urlpatterns for module in modules if hasattr(module, "urlpatterns")]
    routers = [path("", include(module.router.urls)) for module in modules if hasattr(module, "router")]
    vars(urlconf)["urlpatterns"] = [pattern for patterns in own for pattern in patterns] or routers
    return urlconf


def routes() -> Iterator[tuple[str, str]]:
    """A method and an address for each named route of the URLconf in force, but for the admin of Django."""
    yield from _routes(get_resolver().url_patterns, "", {})


def _routes(patterns: list[URLPattern | URLResolver], namespace: str, outer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver) and pattern.namespace == "admin":
            continue
        kwargs = {**outer, **{name: SAMPLES[_kind(converter)] for name, converter in pattern.pattern.converters.items()}}
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _routes(pattern.url_patterns, inner, kwargs)
        elif pattern.name:
            methods = getattr(pattern.callback, "view_initkwargs", {}).get("methods", ["GET"])
            yield next(iter(methods)), reverse(f"{namespace}{pattern.name}", kwargs=kwargs)


def _kind(converter: object) -> str:
    return type(converter).__name__.removesuffix("Converter").replace("String", "str").lower()
