"""Addresses of the package's scripts and styles: minified ones where there are some and nobody debugs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.templatetags.static import static
from django.utils.encoding import iri_to_uri

HOME: Final = Path(__file__).parent
FOLDERS: Final[dict[str, Path]] = {
    "django_agent_sse": HOME / "static/django_agent_sse",
    "agent_sse_monitor": HOME / "contrib/monitor/static/agent_sse_monitor",
}
MINIFIED: Final = "min"
"""The folder beside the sources that ``hatch_build.py`` makes in a wheel; a checkout has none."""

_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}
"""Nothing in a text may end the element that it stands in."""


def asset(path: str) -> str:
    """Return the URL of ``django_agent_sse/client.js`` and the like, as the static files storage names it.

    That of the minified file, where the package was installed with these and ``DEBUG`` is off.
    """
    return static(_served(path))


def import_map() -> dict[str, str]:
    """Return what modules of this package are imported as, with their URLs.

    Their names are those of the package for npm. The address that a module would have without a hash in its name leads to the one
    that it has, so that modules find each other by relative addresses too.
    """
    names = {"client": "", "element": "/element", "log": "/log", "react": "/react"}
    addresses = {f"django-agent-sse{path}": asset(f"django_agent_sse/{name}.js") for name, path in names.items()}
    for script in sorted(FOLDERS["django_agent_sse"].glob("*.js")):
        path = f"django_agent_sse/{script.name}"
        address = asset(path)
        for plain in {path, _served(path)}:
            if (url := iri_to_uri(settings.STATIC_URL) + plain) != address:
                addresses[url] = address
    return addresses


def json_in_html(value: Any) -> str:
    """Return a value as JSON that can stand in an element of HTML."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def _served(path: str) -> str:
    folder, _, name = path.partition("/")
    return path if settings.DEBUG or name not in _minified(folder) else f"{folder}/{MINIFIED}/{name}"


@cache
def _minified(folder: str) -> frozenset[str]:
    home = FOLDERS.get(folder)
    return frozenset() if home is None else frozenset(path.name for path in (home / MINIFIED).glob("*.*s"))
