"""System checks about what serves the project: streams need ASGI."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core import checks
from django.core.management import get_commands, load_command_class
from django.core.management.commands.runserver import Command as DjangosRunserver

_HINT = "Set ASGI_APPLICATION, and run an ASGI server; for runserver, install daphne and put 'daphne' first in INSTALLED_APPS."


def no_asgi() -> Iterator[checks.CheckMessage]:
    """Warn of a project whose requests WSGI would get."""
    if not getattr(settings, "ASGI_APPLICATION", None) and getattr(settings, "WSGI_APPLICATION", None):
        yield checks.Warning(
            "WSGI_APPLICATION is set and ASGI_APPLICATION is not: under WSGI a stream would send nothing before its end",
            hint=_HINT,
            id="django_agent_sse.W001",
        )
    elif settings.DEBUG and _runserver_is_djangos():
        yield checks.Warning(
            "manage.py runserver serves this project by WSGI, whatever ASGI_APPLICATION is: streams are answered with 500",
            hint="Put 'daphne' first in INSTALLED_APPS, which makes runserver an ASGI server, or run one yourself, such as "
            "`uvicorn --reload`. Silence this check where nobody uses runserver.",
            id="django_agent_sse.W011",
        )


def _runserver_is_djangos() -> bool:
    """Whether the command runs Django's own server, whichever app it comes from."""
    app = get_commands().get("runserver")
    try:
        command = load_command_class(app, "runserver") if isinstance(app, str) else app
    except (ImportError, AttributeError):  # it will say so itself
        return False
    return getattr(type(command), "inner_run", None) is DjangosRunserver.inner_run
