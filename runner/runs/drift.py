"""Drift: which inputs of a video are no longer those that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..backends.registry import planner_class
from ..disk.publish import read_sidecar
from ..disk.run_folder import RunFolder
from ..experiment.experiment import Experiment
from ..job import SEED, FileInput, Job, MadeInput, changed_roles, input_of
from ..plan.fingerprint import MethodIdentities, MethodIdentity
from ..text.canonical import canonical_json
from ..text.errors import UserError
from ..video.reading import PARAMETERS

MOST_SIDECARS_READ = 400
"""Of stale videos; of more, as many are read, spread evenly."""
EXAMPLES_PER_CHANGE = 3
MOST_CHANGE_LINES = 12
VALUE_CHARACTERS = 60
"""Of a value in a line."""
LEAD_IN_CHARACTERS = 12
"""Of two long texts, what is shown before their first difference."""
HIDDEN = frozenset({"weights", "file", "files"})
"""Of the model's identity: hashes that say less to a person than the files do."""
NAMES = {"weights": "checkpoint"}
"""Of those hashes: the experiment's key, where it is another."""


@dataclass(frozen=True)
class Change:
    """One input that has changed: what it was for the video, and what it is for the job.

    `input` is the experiment's key where there is one (`generation.cfg_scale`); `note` says
    more, or takes the place of the values where they are not known.
    """

    input: str
    before: Any = None
    after: Any = None
    note: str | None = None

    def __str__(self) -> str:
        if self.note is not None:
            return f"{self.input}: {self.note}"
        before, after = shortened(self.before, self.after)
        return f"{self.input}: {before} -> {after}"

    def to_json(self) -> dict[str, Any]:
        return {
            "input": self.input,
            "before": self.before,
            "after": self.after,
            "note": self.note,
            "line": str(self),
        }


@dataclass(frozen=True)
class Now:
    """What videos would be made with now.

    Args:
        identities: of the methods whose identity can be told on this machine.
        model_files: of each method, as `Planner.model_files` gives them.
        unknown: why the identity of the other methods cannot be told.
    """

    identities: MethodIdentities
    model_files: Mapping[str | None, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    unknown: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> Now:
        identities: dict[str | None, MethodIdentity] = {}
        files: dict[str | None, Sequence[Mapping[str, Any]]] = {}
        unknown = ""
        for method in experiment.every_method:
            planner = method.planner()
            try:
                identity = MethodIdentity.of(method, experiment.output.quality, planner)
            except UserError as error:
                unknown = unknown or str(error)
            else:
                identities[method.name], files[method.name] = identity, planner.model_files()
        return cls(identities, files, unknown)


def changes_of(sidecar: Mapping[str, Any], job: Job, now: Now) -> list[Change]:
    """What differs between a video's record and its job; never empty for a stale video.

    A key that an older sidecar does not have is not compared.
    """
    found: list[Change] = []
    inputs, seed = sidecar.get("inputs") or {}, (sidecar.get("point") or {}).get(SEED, job.seed)
    for role in changed_inputs(sidecar, job):
        now_is = job.inputs.get(role)
        if isinstance(now_is, FileInput):
            found.append(_file(role, inputs.get(role) or {}, now_is))
        elif isinstance(now_is, MadeInput):
            found.append(_made(role, inputs.get(role) or {}, now_is))
        else:
            text = None if now_is is None else now_is.identity
            found.append(Change(role, (inputs.get(role) or {}).get("text"), text))
    if seed != job.seed:
        found.append(Change(SEED, seed, job.seed))
    found += _section("generation", sidecar.get("parameters"), job.parameters)
    identity = now.identities.get(job.method)
    if identity is not None:
        own: list[Change] = []
        for key, name, present in (
            ("quality", "output.quality", identity.quality),
            ("backend", "backend", identity.backend),
            ("recipe", "recipe", identity.recipe),
        ):
            if key in sidecar and sidecar[key] != present:
                note = None
                if key == "recipe":
                    since = planner_class(identity.backend).recipe_change
                    note = f"{sidecar[key]} -> {present}: {since}"
                own.append(Change(name, sidecar[key], present, note))
        own += _model(sidecar, identity, now.model_files.get(job.method, ()))
        found += [_of_method(change, job.method) for change in own]
    if found or sidecar.get("fingerprint") == job.fingerprint:
        return found
    if identity is None:
        return [Change("model, backend or quality", note=f"not compared: {now.unknown}")]
    return [Change("fingerprint", note="is another, though every input on record is the same")]


def changed_inputs(sidecar: Mapping[str, Any], job: Job) -> list[str]:
    """The roles of a job's inputs that are not what its sidecar has on record; one without any is
    not compared."""
    record = sidecar.get("inputs")
    if record is None:
        return []
    return changed_roles({role: input_of(one) for role, one in record.items()}, job.inputs)


def _file(role: str, record: Mapping[str, Any], now: FileInput) -> Change:
    before, after, where = record.get("sha256"), now.sha256, now.path
    if record.get("path") != where:
        where = f"{record.get('path')} -> {where}"
    note = f"{where} has other content (sha256 {_brief(before)} -> {_brief(after)})"
    return Change(role, before, after, note)


def _made(role: str, record: Mapping[str, Any], now: MadeInput) -> Change:
    """Of a video that another run makes: there it is a job of other inputs, or another job."""
    before, after, where = record.get("fingerprint"), now.fingerprint, now.path
    if (record.get("run"), record.get("output")) != (now.run, now.output):
        former = record.get("output") or record.get("path")
        where = f"{'/'.join(filter(None, (record.get('run'), former)))} -> {where}"
    note = f"{where} is of other inputs there (fingerprint {_brief(before)} -> {_brief(after)})"
    return Change(role, before, after, note)


def _section(name: str, before: Any, after: Mapping[str, Any]) -> list[Change]:
    """Each key of two mappings whose value differs."""
    if not isinstance(before, dict):
        return []
    return [
        Change(key if key in PARAMETERS else f"{name}.{key}", before.get(key), after.get(key))
        for key in {**before, **after}
        if canonical_json(before.get(key)) != canonical_json(after.get(key))
    ]


def _model(
    sidecar: Mapping[str, Any], identity: MethodIdentity, files: Sequence[Mapping[str, Any]]
) -> list[Change]:
    changes = _section("model", sidecar.get("model_identity"), identity.model)
    found = [change for change in changes if change.input.removeprefix("model.") not in HIDDEN]
    if len(found) == len(changes):
        return found
    former = sidecar.get("model_files")
    differing = files_that_differ(former, files) if isinstance(former, list) and files else []
    if differing:
        return found + differing
    return found + [_other_content(change) for change in changes if change not in found]


def _of_method(change: Change, method: str | None) -> Change:
    """A change of a method's backend or model, under the experiment's key."""
    is_common = method is None or change.input.startswith("output.")
    return change if is_common else replace(change, input=f"methods.{method}.{change.input}")


def _other_content(change: Change) -> Change:
    """A change of files, where nobody can say which of them has changed."""
    key = change.input.removeprefix("model.")
    key = NAMES.get(key, key)
    what = "weights" if key == "checkpoint" else "content"
    note = f"other {what} ({_brief(change.before)} -> {_brief(change.after)})"
    return Change(f"model.{key}", change.before, change.after, note)


def files_that_differ(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """Each model file that came, went or has other content."""
    former = {str(record.get("file")): record for record in before}
    latter = {str(record.get("file")): record for record in after}
    found = []
    for name in {**former, **latter}:
        old, new = former.get(name), latter.get(name)
        if old is not None and new is not None:
            if all(old.get(key) == value for key, value in new.items() if key != "key"):
                continue
            sizes = f"{old.get('size')} -> {new.get('size')} bytes"
            same = old.get("size") == new.get("size")
            note = f"{name} has other content ({'of the same size' if same else sizes})"
        else:
            note = f"{name} {'is new' if old is None else 'is no longer there'}"
        key = str((new or old or {}).get("key", "checkpoint"))
        found.append(Change(f"model.{key}", old and dict(old), new and dict(new), note))
    return found


@dataclass(frozen=True)
class SharedChange:
    """A change that several stale videos have in common; `examples` are their paths."""

    change: Change
    videos: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """The changes in the inputs of a sweep's stale videos. `examined` is the number of videos whose
    sidecars were read."""

    stale: int
    examined: int
    groups: tuple[SharedChange, ...]

    def to_json(self) -> dict[str, Any]:
        groups = [
            {**group.change.to_json(), "videos": group.videos, "examples": list(group.examples)}
            for group in self.groups
        ]
        return {"videos": self.stale, "examined": self.examined, "changes": groups}

    def lines(self) -> list[str]:
        """A line per changed input, most videos first."""
        lines = []
        for group in self.groups[:MOST_CHANGE_LINES]:
            of = f" of {self.examined} examined" if self.examined < self.stale else ""
            more = ", ..." if group.videos > len(group.examples) else ""
            examples = ", ".join(group.examples)
            lines.append(f"{group.videos}{of}: {group.change} ({examples}{more})")
        if len(self.groups) > MOST_CHANGE_LINES:
            lines.append(
                f"and {len(self.groups) - MOST_CHANGE_LINES} further changes; --json names them all"
            )
        return lines


def survey(run: RunFolder, stale: Sequence[Job], now: Now) -> Survey:
    """Compare stale videos' sidecars with their jobs, `MOST_SIDECARS_READ` of them at most."""
    step = max(1, -(-len(stale) // MOST_SIDECARS_READ))
    chosen = stale[::step]
    groups: dict[tuple[str, str], tuple[Change, list[str]]] = {}
    for job in chosen:
        for change in drift(run, job, now):
            _, outputs = groups.setdefault((change.input, str(change)), (change, []))
            outputs.append(job.output)
    ordered = sorted(groups.values(), key=lambda group: -len(group[1]))
    return Survey(
        len(stale),
        len(chosen),
        tuple(
            SharedChange(c, len(outputs), tuple(outputs[:EXAMPLES_PER_CHANGE]))
            for c, outputs in ordered
        ),
    )


def drift(run: RunFolder, job: Job, now: Now) -> list[Change]:
    """What changed of one stale video, by the sidecar that is on disk."""
    sidecar = read_sidecar(run.sidecar(job))
    if sidecar is None:
        return [Change("sidecar", note="is missing or cannot be read")]
    return changes_of(sidecar, job, now)


def shortened(before: Any, after: Any) -> tuple[str, str]:
    """Two values for one line: of long texts, the part where they begin to differ."""
    old, new = ("nothing" if value is None else repr(value) for value in (before, after))
    if max(len(old), len(new)) <= VALUE_CHARACTERS:
        return old, new
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    start = max(0, same - LEAD_IN_CHARACTERS)
    return _cut(old, start), _cut(new, start)


def _cut(text: str, start: int) -> str:
    part = text[start : start + VALUE_CHARACTERS]
    before, after = "..." if start else "", "..." if start + VALUE_CHARACTERS < len(text) else ""
    return f"{before}{part}{after}"


def _brief(digest: Any) -> str:
    return str(digest)[:12]
