"""``python -m tests.eventlog.database.publishing JSON``: publish to a database when told to; prints the seconds it took."""

from __future__ import annotations

import json
import sys
import time

import django
import pymysql
from django.conf import settings

pymysql.install_as_MySQLdb()
about = json.loads(sys.argv[1])
settings.configure(INSTALLED_APPS=["django_agent_sse"], DATABASES={"default": about["database"]})
django.setup()

from django_agent_sse import publish  # noqa: E402 (it reads the settings)

print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for number in range(about["events"]):
    publish(f"t{(number + 13 * about['worker']) % about['topics']}", [about["worker"], number])
print(time.perf_counter() - began)
