"""Locks of the builds that run: the process of each holds one, and the kernel unlocks it however that process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from django.conf import settings


def take(build_id: int) -> int:
    """Lock the build's file: whoever has the descriptor, inherited too, holds the lock as long as it lives.

    Raises:
        BlockingIOError: The build runs already.
    """
    descriptor = os.open(file_of(build_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_held(build_id: int) -> bool:
    """Whether the process that runs the build is alive."""
    try:
        with file_of(build_id).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def file_of(build_id: int) -> Path:
    """The file that is locked; it is removed with the build's end."""
    return Path(settings.STATE) / f"build-{build_id}.lock"
