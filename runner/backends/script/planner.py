"""What a sweep of a person's script is: the script and its files by content, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...shape import Shape
from .. import READING_CHANGE, Examined, PeakMemory, Planner
from ..video_parameters import AXES, shape_of
from .settings import Method, ScriptGeneration, ScriptSettings
from .source import Script

if TYPE_CHECKING:
    from .engine import ScriptEngine


class ScriptPlanner(Planner[ScriptSettings, ScriptGeneration]):
    """A script of a person's own, or several."""

    settings_type = ScriptSettings
    generation_type = ScriptGeneration
    axes = AXES
    costly_axis = "method"
    recipe = 2
    recipe_change = READING_CHANGE

    def steps_are_alike(self) -> None:
        """What a script does with its steps is its own."""

    def identity(self) -> dict[str, Any]:
        """The script and its files by content, and its settings; of each method, where there are
        several."""
        own = {script.name: script.identity() for script in self.scripts()}
        return {"methods": own} if self.settings.methods else own[None]

    @classmethod
    def deciding(
        cls, identity: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What `identity` has of the job's own method."""
        name, methods = parameters.get("method"), identity.get("methods")
        if methods is None:
            if name is not None:
                raise UserError(f"generation.method: {name!r}: there are no model.methods")
            return identity
        if name not in methods:
            raise UserError(
                f"generation.method: {name!r} is none of model.methods ({', '.join(methods)}); "
                f"make it one of them, or an axis: `axes: {{method: [{', '.join(methods)}]}}`"
            )
        own: Mapping[str, Any] = methods[name]
        return own

    def settings_of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        own = self.settings.methods.get(str(parameters.get("method")), self.settings)
        return Method.model_dump(own, mode="json", include=set(Method.model_fields))

    def model_files(self) -> list[dict[str, Any]]:
        """The script, by its name, and every file of `model.files`, by its path under its name
        there; `key` is the experiment's, and `method` whose it is, where there are several."""
        return [record for script in self.scripts() for record in script.model_files()]

    def examine(self) -> Examined:
        """Each script, read by its own interpreter, and what lies at each of its `files`."""
        return Examined(files=tuple(state for script in self.scripts() for state in script.look()))

    def versions(self) -> dict[str, str]:
        """Of each script's Python and of the packages there that touch a video."""
        return {
            f"script.{'' if script.name is None else f'{script.name}.'}{package}": version
            for script in self.scripts()
            for package, version in script.ask().versions.items()
        }

    def peak_memory(self, generation: ScriptGeneration) -> PeakMemory | None:
        """What the experiment says; of several methods the costliest's."""
        given = [script.method.peak_memory_gb for script in self.scripts()]
        known = [gib for gib in given if gib is not None]
        return PeakMemory(max(known), "model.peak_memory_gb") if known else None

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where a script, its files or its interpreter are not as needed."""
        for script in self.scripts():
            script.check()

    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        return shape_of(parameters)

    def engine(self) -> ScriptEngine:
        from .engine import ScriptEngine

        return ScriptEngine(self)

    def scripts(self) -> list[Script]:
        """The script, or one for each method."""
        if not self.settings.methods:
            return [Script(self.settings, self.root)]
        return [Script(own, self.root, name) for name, own in self.settings.methods.items()]
