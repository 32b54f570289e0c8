"""Migrations: none of them takes time, or a lock, that grows with what a project has published."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from django.db.migrations.operations import CreateModel, RunPython
from django.db.migrations.operations.base import Operation

from django_agent_sse import migrations
from django_agent_sse.contrib.monitor import migrations as of_the_monitor


def operations(package: ModuleType = migrations) -> dict[str, list[Operation]]:
    modules = [import_module(f"{package.__name__}.{found.name}") for found in iter_modules(package.__path__)]
    return {module.__name__: [*module.Migration.operations] for module in modules}


def test_no_migration_reads_or_rewrites_rows_that_are_there() -> None:
    every = operations()
    assert len(every) >= 3
    for name, done in every.items():
        made = {one.name.lower() for one in done if type(one).__name__ == "CreateModel"}  # type: ignore[attr-defined]
        for one in done:
            kind = type(one).__name__
            about = getattr(one, "model_name", "").lower()
            harmless = kind in ("CreateModel", "AlterModelOptions", "DeleteModel", "AlterModelManagers")
            assert harmless or about in made, f"{name}: {kind} of {about or 'everything'} touches a table that may be big"


def test_the_monitors_migration_makes_no_table_and_changes_one_row_of_content_types() -> None:
    (create, run), (permissions,) = operations(of_the_monitor).values()
    assert isinstance(create, CreateModel)
    assert not create.options["managed"]
    assert type(permissions).__name__ == "AlterModelOptions"
    assert isinstance(run, RunPython), "one UPDATE of one content type: tests/monitor/test_not_installed.py"
