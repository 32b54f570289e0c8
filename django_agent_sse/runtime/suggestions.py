"""What to write instead of a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Return the known name that ``word`` is most likely a misspelling of, or ``None``."""
    return next(iter(get_close_matches(str(word), [*known], n=1)), None)


def suggest(word: object, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: ``did you mean 'x'?``, or ``there are x, y``."""
    names = [*known]
    near = nearest(word, names)
    return f"did you mean {near!r}?" if near is not None else f"there are {', '.join(names)}"
