"""The private names of other libraries that the package uses: all of them, what breaks without each, and that they are there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import asgiref.sync
import django.test.utils
import django.utils.log
import django_redis.client
import pytest
import redis
from django.contrib.messages.middleware import MessageMiddleware
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.handlers.base import BaseHandler
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.functional import LazyObject

PACKAGE = Path(__file__).resolve().parents[1] / "django_agent_sse"
DOCUMENTED = {"_asdict", "_meta", "_default_manager", "_replace"}
"""Public, whatever they look like: Django's and Python's own documentation tells of them."""


class Private(NamedTuple):
    """A name, and what is lost where a release of its owner takes it away."""

    there: Callable[[], bool]
    breaks: str


NAMES = {
    # Python
    "_get_running_loop": Private(lambda: hasattr(asyncio, "_get_running_loop"), "a notification on the loop itself raises"),
    "_register_atexit": Private(
        lambda: hasattr(threading, "_register_atexit"), "the last notifications of a script whose layer's host is a name are lost"
    ),
    "_transport": Private(
        lambda: "self._transport" in inspect.getsource(asyncio.StreamReader),
        "a piped StreamReader that a client leaves is not closed, and its process goes on",
    ),
    # Django
    "_configure_connection": Private(
        lambda: hasattr(DatabaseWrapper, "_configure_connection"), "connections cannot be given back clean to Django's pool"
    ),
    "_dont_enforce_csrf_checks": Private(
        lambda: "_dont_enforce_csrf_checks" in inspect.getsource(CsrfViewMiddleware), "the test client's POSTs are refused"
    ),
    "_expire_info": Private(lambda: hasattr(LocMemCache("", {}), "_expire_info"), "c.kv.keys() on local memory"),
    "_has_been_logged": Private(
        lambda: "_has_been_logged" in inspect.getsource(django.utils.log.log_response), "a refusal is logged twice"
    ),
    "_iterator": Private(lambda: hasattr(StreamingHttpResponse([]), "_iterator"), "a stream's response has no body"),
    "_messages": Private(
        lambda: "request._messages" in inspect.getsource(MessageMiddleware),
        "messages that nobody touched cost a thread in asgi.wrap()",
    ),
    "_middleware_chain": Private(
        lambda: hasattr(BaseHandler, "_middleware_chain"), "asgi.wrap() cannot be made: what runs on the loop is not found"
    ),
    "_raw_delete": Private(lambda: hasattr(QuerySet, "_raw_delete"), "trimming and deleting topics in the database"),
    "_read_started": Private(
        lambda: "_read_started" in inspect.getsource(HttpRequest), "a body that somebody else has read is taken for an empty one"
    ),
    "_resource_closers": Private(
        lambda: hasattr(HttpResponse(), "_resource_closers"), "a response that is made and never sent keeps its stream"
    ),
    "_setup": Private(lambda: hasattr(LazyObject, "_setup"), "a guard's re-check does not load a fresh user"),
    "_table": Private(lambda: hasattr(DatabaseCache("t", {}), "_table"), "c.kv.keys() on the database cache"),
    "_view_middleware": Private(
        lambda: hasattr(BaseHandler, "_view_middleware"), "asgi.wrap() cannot be made: what runs on the loop is not found"
    ),
    # Others
    "_executor": Private(
        lambda: "executor" in inspect.signature(asgiref.sync.ThreadSensitiveContext).parameters,
        "asgi.wrap() gives no thread (asgiref has it from 3.13)",
    ),
    "_server": Private(
        lambda: "self._server" in inspect.getsource(django_redis.client.DefaultClient), "a log that names a django-redis alias"
    ),
    "_sock": Private(lambda: "_sock" in vars(redis.Connection()), "no notifications of a log in Redis come in"),
}
ASGIREF = {
    "SyncToAsync.context_to_thread_executor": "streams pin a thread and a connection each",
    "SyncToAsync.thread_sensitive_context": "streams pin a thread and a connection each",
    "AsyncToSync.executors": "behind sync middleware a handler's queries fail once the view has returned",
    "AsyncToSync.loop_thread_executors": "a test's transaction is not seen by handlers",
}


def private_names() -> set[str]:
    """Underscored attributes that the package uses and does not define."""
    used, own = set(), set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    own.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                    own.add(name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                    own.add(name)
                case ast.Attribute(attr=name):
                    used.add(name)
                case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
                    used.add(name)
                case ast.alias(name=name, asname=alias):
                    own.add(alias or name)
    return {name for name in used - own if name.startswith("_") and not name.startswith("__")}


def test_all_that_are_used_are_listed_and_none_is_listed_in_vain() -> None:
    found = private_names()
    assert found - DOCUMENTED <= NAMES.keys(), "add it here, with what breaks; or do without"
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert [name for name in NAMES if name not in text] == [], "it is not used any more"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_there(name: str) -> None:
    assert NAMES[name].there(), f"{name} is gone, so this breaks: {NAMES[name].breaks}"


@pytest.mark.parametrize("name", ASGIREF)
def test_so_is_what_asgiref_does_not_document(name: str) -> None:
    owner, _, attribute = name.partition(".")
    assert hasattr(getattr(asgiref.sync, owner), attribute), f"{name} is gone, so this breaks: {ASGIREF[name]}"
