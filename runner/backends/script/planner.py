"""What a sweep of a person's script is: the script and its files by content, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...job.shape import Shape
from .. import READING_CHANGE, Examined, PeakMemory, Planner
from ..video_parameters import AXES, shape_of
from .settings import ScriptGeneration, ScriptSettings
from .source import Script

if TYPE_CHECKING:
    from .engine import ScriptEngine


class ScriptPlanner(Planner[ScriptSettings, ScriptGeneration]):
    """A script of a person's own."""

    settings_type = ScriptSettings
    generation_type = ScriptGeneration
    axes = AXES
    recipe = 2
    recipe_change = READING_CHANGE

    def steps_are_alike(self) -> None:
        """What a script does with its steps is its own."""

    def identity(self) -> dict[str, Any]:
        """The script and its files by content, and its settings."""
        return self.script().identity()

    def model_files(self) -> list[dict[str, Any]]:
        """The script, by its name, and every file of `model.files`, by its path under its name
        there; `key` is the experiment's."""
        return self.script().model_files()

    def examine(self) -> Examined:
        """The script, read by its own interpreter, and what lies at each of its `files`."""
        return Examined(files=tuple(self.script().look()))

    def versions(self) -> dict[str, str]:
        """Of the script's Python and of the packages there that touch a video."""
        versions = self.script().ask().versions
        return {f"script.{package}": version for package, version in versions.items()}

    def peak_memory(self, generation: ScriptGeneration) -> PeakMemory | None:
        """What the experiment says."""
        gib = self.settings.peak_memory_gb
        return None if gib is None else PeakMemory(gib, "model.peak_memory_gb")

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where the script, its files or its interpreter are not as needed."""
        self.script().check()

    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        return shape_of(parameters)

    def engine(self) -> ScriptEngine:
        from .engine import ScriptEngine

        return ScriptEngine(self)

    def script(self) -> Script:
        return Script(self.settings, self.root)
