"""Twins of a log's verbs, for coroutines."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

_P = ParamSpec("_P")
_S = TypeVar("_S")
_T = TypeVar("_T")


def twin_of(
    verb: Callable[Concatenate[_S, _P], _T], run: Literal["_run", "_run_read", "_run_note"] = "_run"
) -> Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]]:
    """Return a verb for coroutines, with the same arguments: it runs where ``run`` says, and does not block the event loop."""

    @wraps(verb)
    async def twin(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        result: _T = await getattr(self, run)(partial(verb, self, *args, **kwargs))
        return result

    twin.__name__, twin.__doc__ = f"a{verb.__name__}", f"See ``{verb.__name__}``."
    return twin
