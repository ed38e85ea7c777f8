"""A plan as a table."""

from __future__ import annotations

import time

from rich.table import Table

from ..backends.settings import settings_line, settings_set
from ..costs.costs import Pace, hours
from ..costs.forecast import Forecast
from ..dataset.remarks import remark_lines
from ..job import METHOD
from ..runs.links import linked_line
from ..sweeps.planned import Planned
from ..sweeps.planning import Plan
from ..text.console import PlainConsole, plain
from ..text.plain_text import size


def print_plan(plan: Plan) -> None:
    """The table on standard output, what needs attention below it."""
    planned, estimate, forecast, survey = plan.planned, plan.estimate, plan.forecast, plan.drift
    console = PlainConsole(soft_wrap=True)
    for change in planned.key_changes:
        console.print(plain(f"changed: {change}", "yellow"))
    if planned.experiment.overrides:
        overrides = " ".join(planned.experiment.overrides)
        console.print(plain(f"overrides in force: {overrides} (KEY= takes one back)", "dim"))
    for line in planned.left_out:
        console.print(plain(f"left out: {line}", "yellow"))
    table = Table(title=plain(f"{planned.run.name}: {estimate.jobs} jobs"), title_justify="left")
    table.add_column("category")
    table.add_column("jobs", justify="right")
    table.add_column("starts on GPU")
    for category, count in estimate.jobs_per_category.items():
        own = [gpu for gpu, names in estimate.categories_per_gpu.items() if category in names]
        table.add_row(plain(category), str(count), ", ".join(map(str, own)) or "any")
    console.print(table)
    table = Table()
    for name in ("GPU", "jobs", "processes", "peak memory", "fits"):
        table.add_column(name, justify="right")
    peak, processes = estimate.peak_memory, estimate.processes_per_gpu
    for gpu, jobs in estimate.jobs_per_gpu.items():
        memory, fits = "-", "-"
        if peak is not None:
            memory = f"{processes} x {peak.gib:.1f} GiB"
            fits = "no" if processes * peak.gib > estimate.gpu_memory_gib else "yes"
        table.add_row(str(gpu), str(jobs), str(processes), memory, fits)
    console.print(table)
    for method in planned.experiment.every_method:
        whose = "" if method.name is None else f"{METHOD} {method.name}: "
        if (what := planned.models[method.name].what) is not None:
            console.print(plain(f"{whose}model: {what}"))
        if settings := settings_line(settings_set(method.model)):
            console.print(plain(f"{whose}settings: {settings}"))
    sessions = (
        "1 worker session" if estimate.sessions == 1 else f"{estimate.sessions} worker sessions"
    )
    disk = f"about {size(estimate.disk_bytes)} of disk ({estimate.disk_source})"
    console.print(plain(f"{sessions}, {disk}"))
    for line in cost_lines(forecast, time.time()):
        console.print(plain(line, "" if forecast.cost else "dim"))
    if peak is not None:
        console.print(
            plain(
                f"peak memory: {peak.source}; GPU memory {estimate.gpu_memory_gib:.1f} GiB "
                f"({estimate.gpu_memory_source})",
                "dim",
            )
        )
    for line in remark_lines(planned.remarks):
        console.print(plain(f"clips: {line}", "yellow"))
    for problem in (*estimate.problems, *forecast.advice):
        console.print(plain(f"warning: {problem}", "bold yellow"))
    console.print(plain(change_line(planned)))
    if planned.awaiting:
        noun, verb = ("job", "awaits") if planned.awaiting == 1 else ("jobs", "await")
        told = f"{planned.awaiting} {noun} {verb} videos that another sweep has yet to make"
        console.print(plain(told))
    if planned.linked:
        console.print(plain(linked_line(planned.linked)))
    if survey.stale:
        videos = "video was" if survey.stale == 1 else "videos were"
        console.print(
            plain(
                f"stale: {survey.stale} {videos} made from inputs that have changed since; "
                f"`sweep resume {planned.run.name} --stale` remakes them",
                "yellow",
            )
        )
        for line in survey.lines():
            console.print(plain(f"  {line}"))
    console.print(plain(f"run folder: {planned.run.path}"))


def cost_lines(forecast: Forecast, now: float) -> list[str]:
    """Time and GPU-hours with their range, and where the numbers come from."""
    cost = forecast.cost
    if cost is None:
        those = " and of ".join(filter(None, forecast.unknown))
        video = f"a video of {those}" if those else "a video"
        return [f"time: not known before {video} was made; `sweep calibrate` measures it"]
    if not cost.videos:
        return ["nothing is left to make"]
    likely, least, most = cost.hours
    end = time.strftime("%a %H:%M", time.localtime(now + 3600 * likely))
    lines = [
        f"{cost.videos} videos are left: about {hours(3600 * likely)} ({hours(3600 * least)} to "
        f"{hours(3600 * most)}), until {end}; {cost.gpu_hours[0]:.3g} GPU-hours "
        f"({cost.gpu_hours[1]:.3g} to {cost.gpu_hours[2]:.3g})",
    ]
    portions = [(f"{one.videos} of {one.name}: ", one.pace) for one in cost.portions]
    for name, pace in portions or [("", Pace(*cost.gpu_seconds_a_video, cost.source))]:
        lines.append(f"  {name}{pace.seconds:.3g} GPU-seconds a video, {pace.source}")
    lines[-1] += "; loading left out"
    return lines


def change_line(planned: Planned) -> str:
    """`+120 new, 670 kept, 10 stale (prompt changed in camera_motion/ref_a), 3 retired`."""
    changes = planned.changes
    said = f" ({'; '.join(planned.reasons)})" if planned.reasons else ""
    unmade = changes.changed - planned.made_stale
    parts = [f"+{changes.added} new", f"{changes.kept - changes.changed} kept"]
    parts.append(f"{planned.made_stale} stale{said if planned.made_stale else ''}")
    if unmade:
        parts.append(f"{unmade} changed before they were made{'' if planned.made_stale else said}")
    return ", ".join([*parts, f"{changes.retired} retired"])
