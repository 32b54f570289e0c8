"""``python -m tests.program CODE``: what ``python -c CODE`` is, for processes that begin warm (``tests/warm.py``)."""

from __future__ import annotations

import sys

exec(compile(sys.argv.pop(1), "program", "exec", dont_inherit=True))
