"""The test project with recipes whose course a test decides; see ``tests.testproject.recipe``."""

from __future__ import annotations

import sys
from pathlib import Path

from testproject.settings import *  # noqa: F403
from testproject.settings import AGENT_SSE, RECIPES, REPOSITORY

PROGRAM = Path(__file__).with_name("recipe.py")
COURSES = ("passes", "fails", "gated", "steps", "odd", "many", "stubborn", "leaves", "waits")


def course(name: str) -> dict[str, object]:
    return {
        "label": f"Course: {name}",
        "description": "Its course is decided by a test.",
        "argv": [sys.executable, str(PROGRAM), name, "{workdir}"],
        "cwd": REPOSITORY,
    }


RECIPES = {
    **RECIPES,
    **{name: course(name) for name in COURSES},
    "nowhere": {**course("nowhere"), "argv": ["/nonexistent/program"]},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # signing in is not what is tested
AGENT_SSE = {**AGENT_SSE, "RETRY": 100}  # a browser that would come back does so while a test watches
