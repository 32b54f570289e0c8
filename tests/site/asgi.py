"""The site as ASGI servers load it."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")

application = get_asgi_application()

if os.environ.get("SITE_WRAPPER") == "1":
    from django_agent_sse.asgi import wrap

    application = wrap(application)

if "SITE_FAULTY_NOTIFICATIONS" in os.environ:
    from tests import faulty_notifications

    faulty_notifications.install(os.environ["SITE_FAULTY_NOTIFICATIONS"])
