"""Locks of the builds that run: the process of each locks a file, and the kernel unlocks it however that process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from django.conf import settings


def take(build_id: int) -> int:
    """Lock the build's file; the descriptor is inherited by the process that runs it, and holds the lock as long as it lives.

    Raises:
        BlockingIOError: The build runs already.
    """
    descriptor = os.open(_file(build_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sign(descriptor: int) -> None:
    """Say that this process holds the lock, and takes signals."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def release(build_id: int, descriptor: int) -> None:
    """Unlock and remove the file: the build is over."""
    _file(build_id).unlink(missing_ok=True)
    os.close(descriptor)


def holder(build_id: int) -> int | None:
    """The process that runs the build; 0 where it is not ready for signals yet, ``None`` where there is none.

    While somebody holds the lock, the number in the file is theirs: it cannot be that of another process.
    """
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(_file(build_id), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.pread(descriptor, 32, 0) or 0)
        finally:
            os.close(descriptor)
    return None


def _file(build_id: int) -> Path:
    return Path(settings.STATE) / f"build-{build_id}.lock"
