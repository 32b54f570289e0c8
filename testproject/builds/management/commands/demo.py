"""``manage.py demo``: a server, a build that is running, and the two lines that show it."""

from __future__ import annotations

import logging
import secrets
import shlex
import socket
import sys
import tempfile
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.urls import reverse

from builds import runs
from builds.models import ApiKey
from builds.recipes import all_recipes

PORT = 8000
USER = "admin"
STOP_SECONDS = 1.0
"""What builds get at the end; what they have started is ended in any case."""
SHOW_STREAMS = 2
"""The verbosity from which on each stream's end is printed."""


class Command(BaseCommand):
    help = (
        "Serve this project on 127.0.0.1 with a build running, and print where to see it. Needs no network. "
        "The database is a new one that goes at the end, where DATABASE_URL names none; REDIS_URL makes Redis the cache. "
        "Ctrl-C ends it."
    )
    requires_system_checks: ClassVar[list[str]] = []  # they would connect to a database before the demo has one; it has its own

    def add_arguments(self, parser: CommandParser) -> None:
        recipes = all_recipes()
        parser.add_argument(
            "--port", type=int, default=PORT, help=f"the port; where it is taken, the next free one (default: {PORT}; 0: any)"
        )
        parser.add_argument(
            "--recipe", choices=recipes, default=next(iter(recipes)), help="what to build at once (default: %(default)s)"
        )
        parser.add_argument("--open", action="store_true", help="open the build's page in a browser")

    def handle(self, *args: Any, port: int, recipe: str, open: bool, verbosity: int, **options: Any) -> None:
        if find_spec("uvicorn") is None:
            raise CommandError("The demo needs uvicorn: pip install 'django-agent-sse[demo]'")
        from builds.demo_server import listen

        try:
            listener = listen(port)
        except (OSError, OverflowError) as error:
            raise CommandError(f"Cannot listen on 127.0.0.1:{port}: {error}") from error
        with listener, tempfile.TemporaryDirectory(prefix="sse-demo-") as folder:
            bound = listener.getsockname()[1]
            if port and bound != port:
                self._say(f"Port {port} is taken: this is port {bound}.")
            try:
                self._say("Making the database …")
                _keep_state_in(Path(folder))
                self._serve(listener, recipe, open, quiet=verbosity < SHOW_STREAMS)
            except KeyboardInterrupt:  # before the server took the signal over
                pass
            finally:
                connection.close()
        self._say("\nThe demo is over.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()  # also into a pipe, where somebody waits for the address

    def _serve(self, listener: socket.socket, recipe: str, open_browser: bool, quiet: bool) -> None:
        from testproject.asgi import application

        from builds.demo_server import serve

        if quiet:  # not before the import above, which sets logging up once more
            logging.getLogger("django_agent_sse").setLevel(logging.WARNING)
        try:
            page = self._start("http://{}:{}".format(*listener.getsockname()), recipe)
            if open_browser:
                threading.Thread(target=webbrowser.open, args=[page], daemon=True).start()
            serve(application, listener)
        finally:
            runs.stop_all(STOP_SECONDS)

    def _start(self, origin: str, recipe: str) -> str:
        """Start a build, say where it can be seen, and return its page. Who asks already waits until the server begins."""
        password = secrets.token_urlsafe(12)
        user, _ = get_user_model().objects.get_or_create(username=USER, defaults={"is_staff": True, "is_superuser": True})
        user.set_password(password)
        user.save()
        api_key = ApiKey(user=user, name="the demo's curl line")
        key = api_key.renew()
        api_key.save()
        build = runs.start(recipe, user)
        page = origin + build.get_absolute_url()
        manage = shlex.join([sys.executable, str(runs.MANAGE)])
        self._say(
            f"Build {build.pk} is running: {build.label}\n\n"
            f"  in a browser   {page}\n"
            f"  in a terminal  curl -N -H 'X-API-Key: {key}' {origin}{reverse('build-logs', args=[build.pk])}\n"
            f"  in the admin   {origin}{reverse('admin:builds_build_change', args=[build.pk])}\n"
            f"  in a chat      {origin}{reverse('chat')}\n"
            f"  sign in as     {USER}, password {password}\n"
            f"  another build  TESTPROJECT_STATE={shlex.quote(str(settings.STATE))} {manage} run_build -- ls -l\n\n"
            f"More builds: {origin}/   Ctrl-C ends the demo."
        )
        return page


def _keep_state_in(folder: Path) -> None:
    """Point the settings elsewhere before anything connects, as Django's test runner does, and make the tables.

    A database with an address of its own stays what it is.
    """
    settings.STATE = folder
    connection.close()
    if connection.vendor == "sqlite":
        settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = str(folder / "db.sqlite3")
    call_command("migrate", verbosity=0, interactive=False)
