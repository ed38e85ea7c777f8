"""All that can be said of this machine, and of an experiment on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..backends import Examined, PeakMemory, Planner
from ..dataset.dataset import DatasetContent, Lead
from ..disk.run_folder import RunFolder
from ..experiment.device import check_backend
from ..experiment.experiment import Experiment
from ..experiment.rules import Fitted
from ..job.shape import Shape
from ..machine.gpus import Gpu, find_gpus
from ..plan.expansion import facts_of, points_of, uncut_points
from ..plan.plan import largest_video
from ..runs.runs import open_queue
from ..text.errors import UserError
from ..watch.progress import take_snapshot
from .file_system import check_file_system
from .finding import Finding, Severity, right, wrong
from .graphics import Need, check_gpus
from .inputs import check_data, check_model, check_prompts
from .machine import check_clock, check_disk, check_limits, check_memory, check_processor
from .software import (
    ask_torch,
    check_backends,
    check_packages,
    check_programs,
    check_python,
    check_torch,
)


def examine_machine(folder: Path) -> Iterator[Finding]:
    """What can be said without an experiment; results would go to that folder."""
    gpus = find_gpus()
    yield from check_python()
    yield from check_packages(["wan"])
    yield from check_backends()
    yield from check_torch(ask_torch(), gpus)
    yield from check_programs()
    yield from check_gpus(gpus, None)
    yield from check_disk(folder, None, 0)
    yield from check_memory(0, "")
    yield from check_file_system(folder)
    yield from check_limits()
    yield from check_clock()


def examine(experiment: Experiment) -> Iterator[Finding]:
    """Everything, in the order in which one would mend it."""
    gpus = find_gpus()
    is_well = True
    for finding in _examine(experiment, gpus):
        is_well = is_well and finding.verdict is not Severity.WRONG
        yield finding
    if is_well:
        # It tells but the first mistake, of which the others here are told one by one.
        yield from check_settings(experiment, gpus)


def _examine(experiment: Experiment, gpus: list[Gpu]) -> Iterator[Finding]:
    methods = experiment.every_method
    planners = {method.name: method.planner() for method in methods}
    models = {name: planner.examine() for name, planner in planners.items()}
    run = experiment.run_folder
    yield from check_python()
    yield from check_packages(sorted({method.backend for method in methods}))
    yield from check_backends()
    if any("torch" in planner.imports for planner in planners.values()):
        yield from check_torch(ask_torch(), gpus)
    yield from check_programs()
    yield from check_gpus(gpus, need_of(experiment, planners))
    yield from check_sameness(experiment, gpus)
    for method in methods:
        yield from check_model(models[method.name], method)
    data, findings = check_data(experiment)
    yield from findings
    if data is not None:
        for method in methods:
            yield from check_prompts(method, models[method.name], data)
    left = None
    try:
        left = jobs_left(experiment, run, data)
    except UserError as error:
        yield wrong("run folder", str(error), "mend it, then plan again")
    shapes = wanted_shapes(experiment, data) if data is not None else ()
    need = None if left is None else left * largest_video(shapes, experiment.output.quality)
    yield from check_disk(run.path, need, left or 0)
    yield from check_host_memory(experiment, models, gpus)
    yield from check_file_system(run.path)
    yield from check_limits()
    yield from check_clock()


def check_settings(experiment: Experiment, gpus: list[Gpu]) -> Iterator[Finding]:
    """Whether a launch would take the backend's settings, such as a kernel, on this machine."""
    try:
        check_backend(experiment, gpus)
    except UserError as error:
        yield wrong("launch", str(error), "mend it: docs/experiment.md")


def check_sameness(experiment: Experiment, gpus: list[Gpu]) -> Iterator[Finding]:
    """Several GPUs should compute the same bits; trying it takes minutes, and is not done here."""
    if any(one.backend == "wan" for one in experiment.every_method) and len(gpus) > 1:
        command = f"python -m runner.backends.wan.same_bits {experiment.name}"
        yield right("same bits", f"not tried here; `{command}` compares what the GPUs compute")


def need_of(experiment: Experiment, planners: Mapping[str | None, Planner[Any, Any]]) -> Need:
    """What the costliest of its methods asks of the GPUs."""
    placement = experiment.placement
    peaks: list[PeakMemory] = []
    needs_gpu = False
    for method in experiment.every_method:
        planner = planners[method.name]
        try:
            peak = planner.peak_memory(method.generation)
        except UserError:
            peak = None
        if peak is not None:
            peaks.append(peak)
            needs_gpu = needs_gpu or bool(planner.imports)
    peak = max(peaks, key=lambda one: one.gib, default=None)
    without = placement.device == "cpu" or (placement.device == "auto" and not needs_gpu)
    return Need(placement.gpus, placement.processes_per_gpu, peak, without)


def check_host_memory(
    experiment: Experiment, models: Mapping[str | None, Examined], gpus: list[Gpu]
) -> Iterator[Finding]:
    """Workers read model files through host memory, and managed ones keep them there; each has
    one method's at a time."""
    placement = experiment.placement
    numbers = placement.gpus
    used = max(1, len(gpus)) if isinstance(numbers, str) else len(numbers)
    workers = used * placement.processes_per_gpu
    needs: list[tuple[int, str]] = []
    for method in experiment.every_method:
        sizes = [state.size for state in models[method.name].files if not state.problem]
        managed = getattr(method.model, "vram", "") == "managed"
        each = sum(sizes) if managed else max(sizes, default=0)
        needs.append((each, "all model files" if managed else "the largest model file"))
    each, what = max(needs)
    yield from check_memory(each * workers, f"{workers} workers with {what}")
    yield from check_processor(workers)


def wanted_shapes(experiment: Experiment, data: DatasetContent) -> set[Shape]:
    """What the videos of an experiment must be."""
    return {
        experiment.method_of(one.parameter_set.parameters).shape(
            one.parameter_set.parameters, facts_of(lead, one, experiment.input_axes)
        )
        for lead in data.leads
        for one in uncut_points(experiment, lead, placed(lead))
    }


def jobs_left(experiment: Experiment, run: RunFolder, data: DatasetContent | None) -> int | None:
    """How many videos are still to be made: as the run knows it, else as the grid is now."""
    if run.experiment.exists() and run.manifest.exists():
        queue = open_queue(run)
        try:
            counts = take_snapshot(run.name, queue).counts
        finally:
            queue.close()
        return counts.total - counts.done
    if data is None:
        return None
    fitted = Fitted()
    return sum(
        len(one.seeds)
        for lead in data.leads
        for one in points_of(experiment, lead, placed(lead), experiment.cut, fitted)
    )


def placed(lead: Lead) -> dict[str, int]:
    """A number for each prompt."""
    return {text: number for number, text in enumerate(lead.prompts)}


def examine_file(path: Path, overrides: tuple[str, ...] = ()) -> Iterator[Finding]:
    """As `examine`, for an experiment that may itself be wrong."""
    from ..experiment.loading import load_experiment

    try:
        experiment = load_experiment(path, overrides)
    except UserError as error:
        yield wrong("experiment", str(error), "mend it: docs/experiment.md")
        yield from examine_machine(path.absolute().parent)
        return
    yield from examine(experiment)
