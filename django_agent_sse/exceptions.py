"""One tree of errors, which ``docs/reference/exceptions.rst`` draws.

Everything this package raises on purpose is an ``AgentSSEError``. Those that a client is answered with have a ``status``.
"""

from __future__ import annotations

from typing import Literal


class AgentSSEError(Exception):
    """Base of every error that django-agent-sse raises on purpose."""


class ConfigurationError(AgentSSEError):
    """The project is set up in a way that cannot work; the message names the setting."""


class ArgumentInvalid(AgentSSEError, TypeError):
    """A function was given something of a kind that it cannot take; the message says what it takes. Nothing was done."""


class RouteError(AgentSSEError, TypeError):
    """A route was given a handler, guard or option that it cannot take; raised at import."""


class GuardError(AgentSSEError):
    """A guard returned something else than ``True``, ``False`` or a response; the request is refused."""


class InvalidEvent(AgentSSEError, ValueError):
    """A value that cannot stand in an event stream; nothing was written."""


class StreamError(AgentSSEError):
    """Base of the errors of one stream."""


class StreamClosed(StreamError):
    """The stream has ended: what was written now was not sent."""


class StreamOverflow(StreamError):
    """Four times the buffer is waiting: await the writes, so that they can wait for the client."""


class TooManyThreads(StreamError):
    """As many streams keep a thread for their life as may. Before the response has begun, it is answered as overloaded."""


class HandlerCancelled(StreamError):
    """The handler awaited something that somebody cancelled, and let it pass: an error like any other."""


class CodeExited(StreamError):
    """A handler, guard, factory, callback, filter or map raised what would end the process: ``SystemExit``, as ``argparse`` does,
    ``KeyboardInterrupt`` or ``GeneratorExit``. It ends that one stream; the original is the ``__cause__``."""


class FollowError(StreamError, TypeError):
    """``follow()`` was given no topics, too many, or what it cannot take, or was called twice on one stream."""


class PositionGone(StreamError):
    """A position in a topic cannot be honoured: that of a client which gets no control events that could say so (it is answered
    with 410), or of code that reads a topic.

    Attributes:
        reason: That of the gap: ``trimmed``, ``epoch``, ``unknown`` or ``ahead``.
        of_client: It is a client's, and no mistake of code.
    """

    def __init__(self, message: str, reason: str, *, of_client: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.of_client = of_client


class TopicForbidden(StreamError):
    """The user may not follow a topic, says ``AGENT_SSE["CAN_FOLLOW"]``: 401 or 403, or the end of a stream that has begun."""


class HeadersSent(StreamError):
    """The response has begun: its headers and cookies can no longer change."""


class RequestBodyError(AgentSSEError):
    """The request's body cannot be used. A route answers it with ``status`` and JSON that says why."""

    status = 400


class BodyNotJSON(RequestBodyError):
    """The request's body is not JSON."""


class BodyTooLarge(RequestBodyError):
    """The request's body is over the limit."""

    status = 413


class IdempotencyKeyReused(RequestBodyError):
    """An ``Idempotency-Key`` came before, with another request: nothing was started. A new request needs a new key."""

    status = 422


class QueryInvalid(AgentSSEError, ValueError):
    """A parameter in the URL's query has a value that the route cannot take. Answered with 400 and JSON."""

    status = 400


class KVError(AgentSSEError):
    """Base of the errors of the key-value store."""


class KVKeyInvalid(KVError, ValueError):
    """A namespace or key is empty or too long for a cache key. Before the response has begun it is answered with 404."""


class KVNotEnumerable(KVError, NotImplementedError):
    """The cache cannot list its keys; the message names the caches of the project that can."""


class RunError(AgentSSEError):
    """Base of the errors of one run."""


class RunExists(RunError):
    """Another run works on the topic, or has the key: follow that one instead. Nothing was begun.

    Attributes:
        topic: Where it writes.
    """

    def __init__(self, message: str, topic: str) -> None:
        super().__init__(message)
        self.topic = topic


class RunNotBegun(RunError, AttributeError):
    """What ``produce()`` returns was used without ``with`` or ``async with``, or a second time. Nothing was begun."""


class RunNotFound(RunError):
    """No run has written the topic, or another one than was meant: there is nothing to stop. A route answers with 404.

    Attributes:
        topic: Where it was looked for.
    """

    def __init__(self, message: str, topic: str) -> None:
        super().__init__(message)
        self.topic = topic


class RunStopped(RunError):
    """The run has ended, or is about to: end the work. Raised where its code writes; what it wrote now was not appended.

    Attributes:
        ending: ``stopped``, ``interrupted`` or ``lost``; ``finished`` or ``failed`` where its code was over already.
    """

    def __init__(self, message: str, ending: str) -> None:
        super().__init__(message)
        self.ending = ending


class EventLogError(AgentSSEError):
    """Base of what the event log refuses. Nothing was appended then."""


class TopicNameInvalid(EventLogError, ValueError):
    """The name is empty, too long, or holds something else than printable ASCII."""


class TopicClosed(EventLogError):
    """The topic is closed, and takes no more events; another name, or ``delete()`` first, begins anew.

    Attributes:
        reason: Why it was closed.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class PositionConflict(EventLogError):
    """The topic does not end where ``expect`` says: read what came in between, and decide again.

    Attributes:
        top: The offset that the topic ends at.
    """

    def __init__(self, message: str, top: int) -> None:
        super().__init__(message)
        self.top = top


class LeaseHeld(EventLogError):
    """Another one holds the lease of the topic: it works there, or did a moment ago.

    Attributes:
        holder: Who.
        left: Seconds until its lease runs out, unless it is renewed.
    """

    def __init__(self, message: str, holder: str, left: float) -> None:
        super().__init__(message)
        self.holder = holder
        self.left = left


class LeaseLost(EventLogError):
    """The lease of the topic has run out, was given up, or was taken over: who held it must stop. Nothing was appended."""


class EventTooLarge(EventLogError, InvalidEvent):
    """One event is larger than the log takes, or than any stream carries; store it elsewhere, and publish where."""


class TransactionRefused(EventLogError):
    """``outside_transaction`` was asked for where that cannot be; the message says why."""


class AsyncRequired(EventLogError, RuntimeError):
    """A plain verb was called where an event loop runs, which it would hold up; await its twin with an ``a``."""


class EventLogUnavailable(EventLogError):
    """The store behind the log cannot be reached, or failed. The message says which and what to look at.

    Attributes:
        kind: ``store``; ``tables`` where its tables were not made yet; ``topic`` where only this topic cannot be read.
    """

    def __init__(self, message: str = "", kind: Literal["store", "tables", "topic"] = "store") -> None:
        super().__init__(message)
        self.kind = kind


class EventUnreadable(EventLogUnavailable):
    """What stands in the store for an event, or for several, was not written by this package, or was damaged.

    Attributes:
        offset: The last of them: what comes after it can be read.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message, "topic")
        self.offset = offset
