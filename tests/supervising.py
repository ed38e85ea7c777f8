"""A supervisor whose workers run a program of a test."""

from __future__ import annotations

import os
import sys
from contextlib import closing

from conftest import Project

from runner.job.slot_names import Slot
from runner.slots.lock import SlotLock
from runner.slots.log import SlotLog
from runner.slots.slot import Supervisor
from runner.sweeps.planned import plan_sweep

SLOT = Slot.of(0, 0)


def supervise(project: Project, program: str, *, first_pause: float = 0.0) -> tuple[int, str]:
    """The status of a supervisor whose workers run this program, and its log. `number` there is
    how many were before it, and `finish_a_job()` records one."""
    project.write()
    plan_sweep(project.file, [], skip_invalid=False, take_changes=True)
    run = project.run_folder
    counter = project.root / "counter"
    record = '{"outcome":"done","worker":"gpu0_process0"}'
    begin = (
        "import os, sys\n"
        f"with open({str(counter)!r}, 'a+') as file:\n"
        "    file.seek(0)\n    number = len(file.read())\n    file.write('.')\n"
        f"def finish_a_job():\n    open({str(run.attempts)!r}, 'a').write('{record}\\n')\n"
    )
    log = SlotLog(run.log(SLOT), echo=False)
    command = [sys.executable, "-S", "-E", "-c", begin + program]
    environment = dict(os.environ)
    pauses = {"first_pause": first_pause, "room_seconds": 0.0}
    supervisor = Supervisor(run, SLOT, command, environment, log, **pauses)
    with closing(SlotLock(run.lock(SLOT))) as lock:
        status = supervisor.run(lock)
    return status, run.log(SLOT).read_text()
