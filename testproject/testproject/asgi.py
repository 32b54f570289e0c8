"""The ASGI application of the test project."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from django_agent_sse.asgi import wrap

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

# The handler serves the static files as they are on every server, for a project that is never deployed.
application = ASGIStaticFilesHandler(wrap(get_asgi_application()))
