"""Projects whose commands run in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .processes import Project

LOG = "tests.management.filelog.FileEventLog"


@pytest.fixture
def new_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """``new_project(MAX_EVENTS=3)``: a project with an empty event log that has these options."""
    made: list[Project] = []

    def new(**options: object) -> Project:
        log = {"EVENT_LOG": {"BACKEND": LOG, "OPTIONS": options}}
        environment = {
            "FILE_LOG": str(tmp_path / "events"),
            "SITE_DATABASE": str(tmp_path / "db.sqlite3"),
            "SITE_AGENT_SSE": json.dumps(log),
        }
        made.append(Project(tmp_path, environment))
        return made[-1]

    yield new
    for project in made:
        project.close()


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project with an empty event log."""
    return new_project()
