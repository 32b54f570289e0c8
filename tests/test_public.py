"""The front door: its names, and that each is documented."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.dispatch import Signal

import django_agent_sse
from django_agent_sse import exceptions, guards

PUBLIC = {
    "AsyncRun",
    "Context",
    "Ending",
    "Event",
    "Guard",
    "KV",
    "Router",
    "Run",
    "RunAccess",
    "RunEnding",
    "RunState",
    "SSEView",
    "Stream",
    "Topic",
    "aclose_streams",
    "aclose_topic",
    "api_key",
    "apublish",
    "apublish_many",
    "arevoke_signed_urls",
    "atopic_cursor",
    "close_streams",
    "close_topic",
    "event_log",
    "live_log",
    "login_required",
    "permission_required",
    "produce",
    "publish",
    "publish_many",
    "revoke_signed_urls",
    "signed_required",
    "signed_url",
    "staff_required",
    "process_closing",
    "stream_closed",
    "stream_opened",
    "topic_cursor",
    "topic_name",
    "topic_permissions",
}

ERRORS = {
    "AgentSSEError": (Exception,),
    "ConfigurationError": ("AgentSSEError",),
    "ArgumentInvalid": ("AgentSSEError", TypeError),
    "RouteError": ("AgentSSEError", TypeError),
    "GuardError": ("AgentSSEError",),
    "InvalidEvent": ("AgentSSEError", ValueError),
    "StreamError": ("AgentSSEError",),
    "StreamClosed": ("StreamError",),
    "StreamOverflow": ("StreamError",),
    "TooManyThreads": ("StreamError",),
    "HandlerCancelled": ("StreamError",),
    "CodeExited": ("StreamError",),
    "FollowError": ("StreamError", TypeError),
    "PositionGone": ("StreamError",),
    "TopicForbidden": ("StreamError",),
    "HeadersSent": ("StreamError",),
    "RequestBodyError": ("AgentSSEError",),
    "BodyNotJSON": ("RequestBodyError",),
    "BodyTooLarge": ("RequestBodyError",),
    "IdempotencyKeyReused": ("RequestBodyError",),
    "QueryInvalid": ("AgentSSEError", ValueError),
    "KVError": ("AgentSSEError",),
    "KVKeyInvalid": ("KVError", ValueError),
    "KVNotEnumerable": ("KVError", NotImplementedError),
    "EventLogError": ("AgentSSEError",),
    "TopicNameInvalid": ("EventLogError", ValueError),
    "TopicClosed": ("EventLogError",),
    "PositionConflict": ("EventLogError",),
    "LeaseHeld": ("EventLogError",),
    "LeaseLost": ("EventLogError",),
    "RunError": ("AgentSSEError",),
    "RunExists": ("RunError",),
    "RunNotBegun": ("RunError", AttributeError),
    "RunNotFound": ("RunError",),
    "RunStopped": ("RunError",),
    "EventTooLarge": ("EventLogError", "InvalidEvent"),
    "AsyncRequired": ("EventLogError", RuntimeError),
    "TransactionRefused": ("EventLogError",),
    "EventLogUnavailable": ("EventLogError",),
    "EventUnreadable": ("EventLogUnavailable",),
}

CLASSES = ["AsyncRun", "Context", "KV", "Router", "Run", "SSEView", "Stream", "Topic"]


def documented_variables(module: Any) -> set[str]:
    """Names that an assignment with a docstring right below it makes."""
    body = ast.parse(Path(module.__file__).read_text()).body
    return {
        name.id
        for assignment, text in pairwise(body)
        if isinstance(assignment, ast.Assign | ast.AnnAssign) and isinstance(text, ast.Expr)
        for name in ast.walk(assignment)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def test_these_are_the_public_names() -> None:
    assert set(django_agent_sse.__all__) == PUBLIC
    assert len(django_agent_sse.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_is_there_and_documented(name: str) -> None:
    found = getattr(django_agent_sse, name)
    if isinstance(found, Signal):
        assert name in documented_variables(django_agent_sse.signals)
    elif name == "Guard":
        assert name in documented_variables(guards)
    else:
        assert found.__name__ == name
        assert (found.__doc__ or "").strip()
        assert found.__module__.startswith("django_agent_sse.")


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_stands_in_the_packages_docstring_once(name: str) -> None:
    (text,) = re.findall(rf"``{name}``", django_agent_sse.__doc__ or "") or [None]
    assert text


def test_each_is_listed() -> None:
    assert set(dir(django_agent_sse)) >= PUBLIC | {"__version__"}
    names: dict[str, Any] = {}
    exec("from django_agent_sse import *", names)
    assert names.keys() - {"__builtins__"} == PUBLIC


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'django_agent_sse' has no attribute 'publsh'"):
        django_agent_sse.publsh  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", django_agent_sse.__version__)


@pytest.mark.parametrize("name", CLASSES)
def test_each_public_method_and_property_is_documented(name: str) -> None:
    members = {
        member: value
        for member, value in vars(getattr(django_agent_sse, name)).items()
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod))
    }
    inherited = {"dispatch"}  # Django's own contract
    assert members
    assert [member for member, value in members.items() if not value.__doc__ and member not in inherited] == []


def test_each_ending_is_documented() -> None:
    tree = ast.parse(inspect.getsource(django_agent_sse.Ending))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    documented = {
        assignment.targets[0].id
        for assignment, text in pairwise(body)
        if isinstance(assignment, ast.Assign) and isinstance(assignment.targets[0], ast.Name) and isinstance(text, ast.Expr)
    }
    assert documented == set(django_agent_sse.Ending.__members__)


# Errors


def test_these_are_the_errors() -> None:
    found = {name for name, value in vars(exceptions).items() if inspect.isclass(value)}
    assert found == ERRORS.keys()


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_has_its_place_in_the_tree(name: str) -> None:
    error = getattr(exceptions, name)
    bases = tuple(getattr(exceptions, base) if isinstance(base, str) else base for base in ERRORS[name])
    assert error.__bases__ == bases
    assert (error.__doc__ or "").strip()


def test_an_error_of_a_body_knows_its_status() -> None:
    assert (exceptions.BodyNotJSON.status, exceptions.BodyTooLarge.status) == (400, 413)
