"""Which backends there are: ours by a table, other people's by the packages that are installed.

A package brings one by an entry point, in its pyproject.toml:

    [project.entry-points."sweep_runner.backends"]
    mine = "my_package.planner:MyPlanner"

Installed packages are asked only for a name that is not ours, and by whoever lists all there are.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..text.errors import UserError
from . import Planner

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "sweep_runner.backends"

OURS: Mapping[str, str] = {
    "fake": "runner.backends.fake.planner:FakePlanner",
    "script": "runner.backends.script.planner:ScriptPlanner",
    "wan": "runner.backends.wan.planner:WanPlanner",
}


@dataclass(frozen=True)
class Installed:
    """A backend that a package brings: its name, `module:class`, and the package with version."""

    name: str
    place: str
    package: str

    def planner_class(self) -> type[Planner[Any, Any]]:
        """Its planner.

        Raises:
            UserError: it cannot be imported, or is none.
        """
        try:
            found = _imported(self.place)
        except (Exception, SystemExit) as error:
            # Whatever another's module does when it is run.
            why = " ".join(str(error).split())
            raise UserError(
                f"backend {self.name}: {self.place} of {self.package} cannot be imported: "
                f"{type(error).__name__}: {why}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Planner)):
            raise UserError(f"backend {self.name}: {self.place} of {self.package} is no Planner")
        return found


def planner_class(name: str) -> type[Planner[Any, Any]]:
    """The planner of that name.

    Raises:
        UserError: there is no such backend; the message lists the ones there are. Or two packages
            bring one of that name, or it cannot be imported.
    """
    if name in OURS:
        found: type[Planner[Any, Any]] = _imported(OURS[name])
        return found
    here = installed()
    own = [one for one in here if one.name == name]
    if not own:
        names = ", ".join(sorted({*OURS, *(one.name for one in here)}))
        raise UserError(f"backend: no backend is called {name!r} (valid: {names})")
    if len(own) > 1:
        packages = " and ".join(one.package for one in own)
        raise UserError(f"backend: {name!r} is of {packages}; uninstall all but one of them")
    return own[0].planner_class()


def installed() -> list[Installed]:
    """The backends that installed packages bring, by name; nothing of them is imported. One with
    a name of ours is among them, and never used."""
    from importlib import metadata

    found = {
        Installed(point.name, f"{point.module}:{point.attr}", _package(point))
        for point in metadata.entry_points(group=ENTRY_POINTS)
    }
    return sorted(found, key=lambda one: (one.name, one.package))


def _package(point: EntryPoint) -> str:
    return "an unnamed package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
