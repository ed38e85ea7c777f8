"""Kills at random times: workers, supervisors, launching commands and the tmux server."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos_sweep import Broken, ChaosSweep, Kind, Victim
from measuring import table

from runner.disk.run_folder import sha256_file
from runner.experiment.sections import Retries

WEIGHTS = {Kind.WORKER: 80.0, Kind.SUPERVISOR: 12.0, Kind.COMMAND: 6.5, Kind.TMUX: 1.5}
"""How often each kind is chosen; a tmux server takes all of its slots along."""

MIXED_WEIGHTS = {**WEIGHTS, Kind.WORKER: 55.0, Kind.HELPER: 25.0}
MIXED_SIGNALS = {
    signal.SIGKILL: 35.0,
    signal.SIGSTOP: 35.0,
    signal.SIGHUP: 15.0,
    signal.SIGQUIT: 15.0,
}
"""What a worker, a supervisor or a command is sent; the others are killed. SIGCONT follows a
SIGSTOP after up to `STOPPED_SECONDS`, longer than a worker may stand still with the queue."""

STOPPED_SECONDS = 20.0

LEAD = 0.04
"""The share by which kills are ahead of jobs, so that there is something to kill until the last."""


@dataclass(frozen=True)
class KillPlan:
    """How a sweep is attacked: so many kills, on average `seconds_between` apart."""

    backend: str
    kills: int
    jobs: int
    slots: int
    seconds_between: float
    minutes: float
    seed: int
    is_mixed: bool = False


MODELS: dict[str, dict[str, Any]] = {
    "fake": {"seconds": 0.15, "spread": 0.6},
    "wan": {"checkpoint": "tiny"},
}


def attack(folder: Path, plan: KillPlan, broken: Broken) -> str:
    """Plan a sweep, kill, let it finish and check it; returns what happened in Markdown."""
    rng = random.Random(plan.seed)
    model = MODELS[plan.backend]
    sweep = ChaosSweep(folder, backend=plan.backend, model=model, jobs=plan.jobs, slots=plan.slots)
    start = time.monotonic()
    with sweep.cleaned_up():
        sweep.ask("plan", str(sweep.file))
        planned = sha256_file(sweep.run.manifest)
        killed, signals = kill_at_random(sweep, plan, rng, broken)
        attacked = time.monotonic() - start
        rows = sweep.ask("progress", str(sweep.run.path), statuses=(0, 1))
        states = ("done", "running", "pending", "failed")
        counted = sum(rows[state] for state in states)
        broken.expect(counted == sweep.total, f"{counted} of {sweep.total} jobs are accounted for")
        sweep.finish(broken)
        seconds = time.monotonic() - start
        good = sweep.check_whole(broken)
        sweep.check_manifest(broken, planned)
        outcomes = sweep.check_never_twice(broken)
        sweep.check_tidy(broken)
        for text in sweep.tracebacks():
            broken.expect(False, f"a traceback: {text}")
    cells = [
        [plan.backend, f"{sweep.total:,}", f"{killed.total():,}"],
        [str(killed[kind]) for kind in Kind],
        [f"{attacked:.0f}", f"{seconds:.0f}"],
        [str(outcomes["died"]), str(rows["failed"])],
        [str(good), str(len(broken.findings))],
    ]
    head = ["backend", "jobs", "kills", *(f"of {kind.value}" for kind in Kind)]
    head += ["seconds under attack", "seconds to the end", "attempts that died"]
    head += [f"failed by {Retries().deaths} deaths, before the last resume"]
    head += ["good videos", "promises broken"]
    sent = ", ".join(f"{number.name} {count}" for number, count in signals.most_common())
    return table(head, [[cell for part in cells for cell in part]]) + f"\n\nSent: {sent}."


def kill_at_random(
    sweep: ChaosSweep, plan: KillPlan, rng: random.Random, broken: Broken
) -> tuple[Counter[Kind], Counter[signal.Signals]]:
    """Kill until the plan's number is reached, resuming the sweep whenever its processes or the
    command that started them are gone."""
    killed: Counter[Kind] = Counter()
    signals: Counter[signal.Signals] = Counter()
    ends = time.monotonic() + 60 * plan.minutes
    starting: list[subprocess.Popen[bytes]] = []
    told = 0
    while killed.total() < plan.kills:
        if time.monotonic() > ends:
            broken.expect(False, f"only {killed.total()} of {plan.kills} kills in the time given")
            break
        starting = [command for command in starting if command.poll() is None]
        alive = Counter(victim.kind for victim in sweep.victims())
        missing = sweep.slots - alive[Kind.SUPERVISOR]
        if missing == sweep.slots and not starting and sweep.has_ended():
            broken.expect(False, f"the sweep ended after {killed.total()} of {plan.kills} kills")
            break
        # One that waits does not start again what dies meanwhile: a second one does.
        if (missing and not starting) or (missing > sweep.slots / 2 and len(starting) == 1):
            starting.append(resume(sweep, rng))
        # Kills shall come to an end shortly before the jobs do.
        ahead = killed.total() / plan.kills - sweep.done_so_far() / sweep.total - LEAD
        mean = plan.seconds_between * (2.0 if ahead > 0.05 else 0.2 if ahead < -0.02 else 1.0)
        time.sleep(min(rng.expovariate(1 / mean), 5 * mean))
        victim = choose(sweep, rng, MIXED_WEIGHTS if plan.is_mixed else WEIGHTS)
        number = choose_signal(victim, rng) if plan.is_mixed else signal.SIGKILL
        if victim is not None and sweep.kill(victim, number):
            killed[victim.kind] += 1
            signals[number] += 1
            if number is signal.SIGSTOP:
                seconds = min(rng.expovariate(1 / 3.0), STOPPED_SECONDS)
                threading.Timer(seconds, sweep.kill, (victim, signal.SIGCONT)).start()
        if killed.total() >= told + plan.kills / 20:
            told = killed.total()
            now = f"{time.strftime('%H:%M:%S')}: {told} kills"
            print(f"{now}, {sweep.done_so_far()} of {sweep.total} jobs done", file=sys.stderr)
    return killed, signals


def resume(sweep: ChaosSweep, rng: random.Random) -> subprocess.Popen[bytes]:
    words = ["resume", str(sweep.run.path), "--on", rng.choice(sweep.launchers)]
    return sweep.start(*words, *rng.choice([["--wait"], []]))


def choose_signal(victim: Victim | None, rng: random.Random) -> signal.Signals:
    if victim is None or victim.kind in (Kind.TMUX, Kind.HELPER):
        return signal.SIGKILL
    return rng.choices(list(MIXED_SIGNALS), list(MIXED_SIGNALS.values()))[0]


def choose(sweep: ChaosSweep, rng: random.Random, weights: Mapping[Kind, float]) -> Victim | None:
    """Someone to kill: first the kind, then one of that kind, as far as there are any."""
    alive: list[Victim] = sweep.victims()
    if Kind.HELPER in weights:
        alive += sweep.helpers()
    kinds = [kind for kind in weights if kind is Kind.TMUX or kind in {v.kind for v in alive}]
    kind = rng.choices(kinds, [weights[kind] for kind in kinds])[0]
    if kind is Kind.TMUX:
        return sweep.tmux_server()
    return rng.choice([victim for victim in alive if victim.kind is kind])
