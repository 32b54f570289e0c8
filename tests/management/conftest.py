"""Projects whose commands run in processes of their own, on the database log in SQLite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from tests.databases import extra_database
from tests.site import settings

from .processes import Project

DATABASE_LOG = "django_agent_sse.eventlog.database.DatabaseEventLog"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, to be copied."""
    database = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    done = Project(database.parent, {"SITE_DATABASE": str(database)}).run("migrate", "--verbosity=0")
    assert done.returncode == 0, done.stderr
    return database


@pytest.fixture
def new_project(tmp_path: Path, migrated: Path, django_db_blocker: Any) -> Iterator[Callable[..., Project]]:
    """``new_project(MAX_EVENTS=3)``: a project with an empty event log that has these options."""
    made: list[Project] = []

    @contextmanager
    def reading(database: str, **options: object) -> Iterator[None]:
        """Have this process use the project's event log."""
        log = {"EVENT_LOG": {"BACKEND": DATABASE_LOG, "OPTIONS": {**options, "ALIAS": "project"}}}
        whole = settings.database(database)
        with django_db_blocker.unblock(), extra_database("project", whole), override_settings(AGENT_SSE=log):
            yield

    def new(backend: str = DATABASE_LOG, **options: object) -> Project:
        database = shutil.copy(migrated, tmp_path / "db.sqlite3")
        log = {"EVENT_LOG": {"BACKEND": backend, "OPTIONS": options}}
        environment = {"SITE_DATABASE": str(database), "SITE_AGENT_SSE": json.dumps(log), "SITE_STALL": "120"}
        made.append(Project(tmp_path, environment))
        made[-1].reading = partial(reading, str(database), **options)
        return made[-1]

    yield new
    for project in made:
        project.close()


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project with an empty event log."""
    return new_project()
