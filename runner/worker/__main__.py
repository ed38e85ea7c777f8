"""`python -m runner.worker`: the worker process of a slot, from arguments to exit status.

It ends with one of these exit statuses:

- 0: nothing is left to do, or a stop was asked for;
- `EXIT_WRONG`: the machine or the experiment is wrong;
- `EXIT_RESTART`: a new worker is to go on;
- `EXIT_NO_ROOM`: a new worker may go on as soon as the disk has room;
- `EXIT_LOAD_FAILED`: the model could not be loaded;
- any other: the worker failed and may be started again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..backends import Machine
from ..disk.manifest import read_manifest
from ..disk.run_folder import RunFolder, locked
from ..experiment.loading import load_experiment
from ..job import Job
from ..job.failures import is_disk_full, may_be_disk_full
from ..job.slot_names import Slot
from ..machine import suspension
from ..machine.processes import Stop
from ..machine.waiting import Waiting
from ..plan.plan import largest_video
from ..queue import Queue
from ..queue.claim_order import Taste
from ..queue.claims import Claim
from ..queue.damaged import damage_behind_opened
from ..slots.slot import EXIT_LOAD_FAILED, EXIT_NO_ROOM, EXIT_RESTART, EXIT_WRONG
from ..text.errors import UserError
from ..text.log_lines import LineFormatter
from ..text.plain_text import printable, tail
from ..text.utf8_mode import ensure_utf8
from . import Worker
from .disk_room import DiskRoom
from .gpu_watch import GpuWatch
from .leaving import Broken, LoadFailed, Outdated, Restart
from .loaded import methods_of
from .making import Patience
from .surroundings import Recycling, Surroundings

log = logging.getLogger("sweep")

SWITCH_SECONDS = 0.0005

LEAVING_SECONDS = 8.0
"""How long a worker that was asked to end waits for the queue: less than its slot's grace."""


class StepBar:
    """One tqdm bar per video, on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._job: str | None = None

    def show(self, claim: Claim, step: int, steps: int) -> None:
        if self._bar is None or self._job != claim.token:
            self.close()
            name = tail(
                printable(f"{claim.job.group.rpartition('/')[2]}/{Path(claim.job.output).stem}"), 36
            )
            self._bar = tqdm(total=steps, desc=name, leave=False, ncols=78)
            self._job = claim.token
        self._bar.update(step - self._bar.n)
        if step == steps:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def planned_jobs(run: RunFolder) -> Sequence[Job]:
    """The jobs of the manifest as it stands. None of them where it cannot be read: a worker needs
    only the queue."""
    try:
        return read_manifest(run.manifest).jobs
    except UserError as error:
        log.warning("%s", error)
        return ()


def is_leaving(stop: Stop, waited: float) -> bool:
    """Whether a worker is to wait no longer for the process that holds the queue, since it has to
    end."""
    return (stop.is_asked or stop.after_job) and waited > LEAVING_SECONDS


def work(arguments: argparse.Namespace) -> None:
    # The thread that finishes videos may not keep the one that feeds the GPU waiting for long.
    sys.setswitchinterval(SWITCH_SECONDS)
    run = RunFolder(Path(arguments.run).absolute())
    with locked(run.plan_lock):
        as_read = run.experiment.read_bytes()
        experiment = load_experiment(run.experiment)
    slot = Slot.read(arguments.slot)
    stop = Stop()
    stop.on_signals()
    suspension.install()
    log.info("%s: pid %d, %s threads", slot.name, os.getpid(), os.environ.get("OMP_NUM_THREADS"))
    bar = StepBar()
    queue = Queue(run.queue, waiting=Waiting(None, None, partial(is_leaving, stop)))
    limits = experiment.limits
    surroundings = Surroundings(
        queue=queue,
        slot=slot,
        stop=stop,
        room=DiskRoom(
            run.path, largest_video(queue.shapes(), experiment.output.quality), limits.max_disk_gb
        ),
        watch=GpuWatch(slot.devices),
        recycling=Recycling(limits.recycle_after_jobs, limits.recycle_growth_gb),
    )
    worker = Worker(
        run=run,
        queue=queue,
        methods=methods_of(experiment, arguments.device),
        machine=Machine(
            arguments.device, run.cache, slot.devices.gpu, jobs=partial(planned_jobs, run)
        ),
        data=experiment.data,
        slot=slot,
        taste=Taste(home=tuple(arguments.home), static=experiment.placement.balance == "static"),
        stop=stop,
        patience=Patience(
            60 * limits.stuck_minutes,
            None if limits.job_minutes is None else 60 * limits.job_minutes,
        ),
        surroundings=surroundings,
        show_step=bar.show,
    )
    try:
        worker.run()
        if stop.is_asked:
            raise Restart("this worker was stopped")
    except Outdated:
        with locked(run.plan_lock):
            if run.experiment.read_bytes() != as_read:
                raise
        raise UserError(
            f"{run.experiment}: settings or checkpoint are not those that were planned; run "
            f"`sweep plan {run.experiment}`, then resume"
        ) from None
    finally:
        bar.close()
        queue.close()


def main() -> int:
    ensure_utf8()
    parser = argparse.ArgumentParser(prog="python -m runner.worker")
    parser.add_argument("run")
    parser.add_argument("slot")
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--home", action="append", default=[])
    parser.add_argument("--prefix", default="", help="put before every line of the log")
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(prefix=arguments.prefix))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with logging_redirect_tqdm():
        try:
            work(arguments)
        except Restart as error:
            log.info("a new worker goes on: %s", error)
            return EXIT_RESTART
        except LoadFailed:
            log.exception("the model could not be loaded")
            return EXIT_LOAD_FAILED
        except Broken as error:
            log.error("this worker can do no further job: %s", error)  # noqa: TRY400
            return 1
        except Exception as error:
            if lacks_room(Path(arguments.run), error):
                log.warning("%s; a new worker begins once there is room", error)
                return EXIT_NO_ROOM
            damage = damage_behind_opened(error)
            if damage is not None or isinstance(error, UserError):
                # A person's mistake needs no traceback, nor does a queue that is to be made anew.
                log.error("%s", damage or error)  # noqa: TRY400
                return EXIT_WRONG
            log.exception("the worker failed")
            return 1
    return 0


def lacks_room(folder: Path, error: BaseException) -> bool:
    """Whether a worker has ended for want of room on the disk of a run folder."""
    if may_be_disk_full(error):
        return DiskRoom(folder, 0, None).is_refused()
    return is_disk_full(error)


if __name__ == "__main__":
    sys.exit(main())
