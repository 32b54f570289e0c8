"""The test project with recipes whose course a test decides; see ``tests.testproject.recipe``.

Its recipes that compile and test do so with a part of what they name, and with all of it where ``LONG_PROOFS`` is set. Daphne, an
app for ``runserver`` alone, is left out of what does not serve with it: importing it takes as long as all of Django.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from testproject.settings import *  # noqa: F403
from testproject.settings import AGENT_SSE, INSTALLED_APPS, LOGGING, RECIPES, REPOSITORY

from tests.testproject.recipe import RUN_LEASE as RUN_LEASE  # a test waits for it

PROGRAM = Path(__file__).with_name("recipe.py")
PACED = Path(__file__).with_name("paced.py")
LONG = "LONG_PROOFS" in os.environ
COLOURED = 100_000 if LONG else 20_000
PARTS = {"django": "django/http", "tests/wire": "tests/wire/test_encoder.py"}
ALONE = ["--noconftest", "-c", os.devnull, "-p", "no:cacheprovider"]
WITHOUT_PLUGINS = ["env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"]
COURSES = ("passes", "fails", "gated", "steps", "odd", "many", "stubborn", "leaves", "waits")


def course(name: str) -> dict[str, object]:
    return {
        "label": f"Course: {name}",
        "description": "Its course is decided by a test.",
        "argv": [sys.executable, str(PROGRAM), name, "{workdir}"],
        "cwd": REPOSITORY,
    }


def shortened(name: str) -> dict[str, object]:
    """A recipe of the project on a part of what it works on."""
    recipe = RECIPES[name]
    return recipe if LONG else {**recipe, "argv": [PARTS.get(word, word) for word in recipe["argv"]]}


if not {"runserver", "demo"} & {*sys.argv}:
    INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "daphne"]
    SILENCED_SYSTEM_CHECKS = ["django_agent_sse.W011"]  # which tells that runserver needs it
RECIPES = {
    **RECIPES,
    "compile": shortened("compile"),
    "tests": shortened("tests"),
    "colours": {**RECIPES["colours"], "argv": [*RECIPES["colours"]["argv"], str(COLOURED)]},
    "shop": {**RECIPES["shop"], "argv": [*WITHOUT_PLUGINS, *RECIPES["shop"]["argv"]]},
    **{name: course(name) for name in COURSES},
    "paced": {
        **course("paced"),
        "argv": [*WITHOUT_PLUGINS, "GATES={workdir}", sys.executable, "-m", "pytest", "-v", *ALONE, str(PACED)],
    },
    "nowhere": {**course("nowhere"), "argv": ["/nonexistent/program"]},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # signing in is not what is tested
AGENT_SSE = {**AGENT_SSE, "RETRY": 100, "SEND_TIMEOUT": 600}  # who would come back does so while a test watches
AGENT_PACE = float(os.environ.get("AGENT_PACE", "0.03"))  # a test comes in the middle
LOGGING["loggers"]["builds"]["level"] = "DEBUG"  # says when the agent has let its model go
