"""Names of parameters that are the same in every process: pytest-xdist refuses tests whose names differ from one to the next."""

from __future__ import annotations

import re

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def plain(value: object) -> str:
    """For ``ids=``: the value's ``repr()`` without where it lies in memory."""
    return ADDRESS.sub("", repr(value))
