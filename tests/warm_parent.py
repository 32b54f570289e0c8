"""``python -m tests.warm_parent DESCRIPTOR``: import what programs of tests need, and fork for each message of ``tests.warm``."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULES = """
    django.core.management django.core.management.commands.migrate django.core.management.commands.check
    django.core.handlers.asgi django.core.servers.basehttp django.db.models django.db.backends.sqlite3.base
    django.db.migrations.executor django.contrib.admin.options django.contrib.admin.sites django.contrib.auth.hashers
    django.contrib.auth.management django.contrib.sessions.backends.db django.contrib.messages.storage.fallback
    django.template.loader django.template.defaulttags django.views.debug django.views.generic django.forms.models
    django.contrib.staticfiles.handlers django.core.cache.backends.locmem django.test.signals
    django_agent_sse.routing django_agent_sse.topics django_agent_sse.management.command django_agent_sse.checks
    django_agent_sse.streams django_agent_sse.eventlog.memory django_agent_sse.client_view
    asyncio email.mime.multipart http.client json logging.config sqlite3 urllib.request concurrent.futures
    uvicorn uvicorn.main uvicorn.lifespan.on uvicorn.protocols.http.httptools_impl uvicorn.protocols.http.h11_impl
    uvicorn.protocols.websockets.websockets_impl uvicorn.loops.auto httpx httpx_sse
"""
"""Modules to import; what needs settings is imported by those that have them."""
MESSAGE, MOST_FILES = 32, 64
HIGH = 100
"""Above the numbers of files that a program is given."""


def wait_for_orders(control: socket.socket) -> dict[str, Any]:
    """Fork for each order; in a child, return the order."""
    while True:
        data, files, _, _ = socket.recv_fds(control, MESSAGE, MOST_FILES)
        if not data:
            os._exit(0)
        order, *files = files
        (back, to), (waiting, go) = os.pipe(), os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child:  # whose parent is about to end: it becomes a child of the one that asks
                os.write(to, str(child).encode())
                os._exit(0)
            for number in (back, to, go):
                os.close(number)
            os.read(waiting, 1)  # its parent has ended, and it has the one that asks
            os.close(waiting)
            control.close()
            with os.fdopen(order, "rb") as file:
                file.seek(0)
                return {**json.loads(file.read()), "files": files}
        os.close(to)
        os.waitpid(between, 0)
        pid = os.read(back, MESSAGE)
        for number in [back, waiting, go, order, *files]:
            os.close(number)
        control.send(pid)


def become(order: dict[str, Any], base: list[str]) -> None:
    """Take over what the program is given."""
    if order["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    _take_files(order["files"], order["numbers"])
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        setattr(sys, name, _text(name, number))
        setattr(sys, f"__{name}__", getattr(sys, name))
    first, *rest = order["argv"]
    own = os.getcwd() if first == "-m" else os.path.dirname(os.path.abspath(first))
    sys.argv = rest if first == "-m" else order["argv"]
    sys.path[:] = [own, *filter(None, order["environment"].get("PYTHONPATH", "").split(os.pathsep)), *base]
    importlib.invalidate_caches()


def _take_files(files: list[int], numbers: list[int]) -> None:
    """Put each file at its number, and leave no other open."""
    above = max(HIGH, *(number + 1 for number in numbers))
    for copy, number in zip([fcntl.fcntl(file, fcntl.F_DUPFD, above) for file in files], numbers, strict=True):
        os.dup2(copy, number)
    kept = sorted(numbers)
    for low, top in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, top)


def _text(name: str, number: int) -> io.TextIOWrapper | None:
    """The text file that Python makes of a descriptor at its start."""
    old = getattr(sys, f"__{name}__")
    mode = "rb" if name == "stdin" else "wb"
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED")) and name != "stdin"
    raw = os.fdopen(number, mode, buffering=0 if unbuffered else -1, closefd=False)
    lines = not unbuffered and (raw.isatty() or name == "stderr")
    return io.TextIOWrapper(raw, old.encoding, old.errors, line_buffering=lines, write_through=unbuffered)


def main() -> None:
    """Import, fork, and be the program."""
    control = socket.socket(fileno=int(sys.argv[1]))
    base = sys.path[1:]
    sys.path[0] = ROOT
    for name in MODULES.split():
        with contextlib.suppress(Exception):  # it needs settings, or is not installed
            importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, which is for the one that asks
    gc.collect()
    gc.freeze()
    order = wait_for_orders(control)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    become(order, base)


main()
del main
if sys.argv and sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy._run_module_as_main(sys.argv[0], alter_argv=True)  # type: ignore[attr-defined]
