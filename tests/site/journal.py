"""What happened inside the server, one JSON object a line, in a file that outlives the process.

``at`` is ``time.monotonic()``, which all processes of one machine share: a test may subtract its own clock from it.
"""

from __future__ import annotations

import json
import os
import time
from functools import cache
from typing import Any


@cache
def _file() -> int:
    return os.open(os.environ.get("SITE_JOURNAL", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(key: str, what: str, **details: Any) -> None:
    """Append one entry; a line is one ``write(2)``, so that threads and a dying process leave whole lines."""
    entry = {"at": time.monotonic(), "key": key, "what": what, **details}
    os.write(_file(), (json.dumps(entry) + "\n").encode())
