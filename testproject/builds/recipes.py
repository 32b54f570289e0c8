"""What can be built: the commands that ``settings.RECIPES`` names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

WORKDIR = "{workdir}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One command that a visitor can start by name, and cannot change.

    Attributes:
        name: The key in ``settings.RECIPES``.
        label: What the button is called.
        description: One sentence.
        argv: The program and its arguments; ``{workdir}`` in one stands for the build's own folder.
        cwd: Where it runs.
        needs: Modules that it imports and that this project does not require.
        group: What the pages fold it away under; those without one stand open.
    """

    name: str
    label: str
    description: str
    argv: tuple[str, ...]
    cwd: Path
    needs: tuple[str, ...] = ()
    group: str = ""

    def command(self, workdir: Path) -> list[str]:
        """The arguments of a build whose own folder is ``workdir``."""
        return [argument.replace(WORKDIR, str(workdir)) for argument in self.argv]

    @property
    def missing(self) -> list[str]:
        """The needed modules that are not installed."""
        return [module for module in self.needs if find_spec(module) is None]


def all_recipes() -> dict[str, Recipe]:
    """The recipes of ``settings.RECIPES`` by name, in their order.

    Raises:
        ImproperlyConfigured: One lacks a part, or its ``argv`` is not a list of strings.
    """
    return {name: _recipe(name, parts) for name, parts in settings.RECIPES.items()}


def grouped() -> dict[str, list[Recipe]]:
    """All recipes by group, those without one first, under ``""``."""
    groups: dict[str, list[Recipe]] = {"": []}
    for recipe in all_recipes().values():
        groups.setdefault(recipe.group, []).append(recipe)
    return groups


def _recipe(name: str, parts: dict[str, object]) -> Recipe:
    argv = parts.get("argv")
    if not isinstance(argv, list | tuple) or not argv or not all(isinstance(part, str) for part in argv):
        raise ImproperlyConfigured(f"RECIPES[{name!r}]['argv'] must be a list of strings, the program first; no shell runs it")
    try:
        values = {**parts, "argv": tuple(argv), "needs": tuple(parts.get("needs", ()))}  # type: ignore[arg-type]
        return Recipe(name=name, **values)  # type: ignore[arg-type]
    except TypeError as error:
        raise ImproperlyConfigured(
            f"RECIPES[{name!r}] wants label, description, argv, cwd and may have needs and group: {error}"
        ) from error
