"""A worker: load -> claim -> prepare -> generate -> finish -> check -> publish -> record.

One model serves many jobs, and one method's is loaded at a time: another takes its place where
nothing is left that it could make. While one job is generated on the GPU, the one before it is
encoded, checked and published on another thread; the worker then holds both claims. What goes
wrong is judged in `failures`; here its answers are carried out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends import Interrupted, Machine
from ..disk.publish import state_on_disk
from ..disk.run_folder import RunFolder
from ..disk.run_id import is_still, run_id
from ..disk.upstream import Unmade, Upstream
from ..job import Job, JobState
from ..job.failures import ANSWERS, FailureKind, is_disk_full, keeps_work, kind_of, told, was_killed
from ..job.slot_names import Slot
from ..machine.processes import ProcessId, Stop, oom_kills
from ..machine.waiting import Busy
from ..queue import Queue
from ..queue.claim_order import Taste
from ..queue.claims import Claim
from ..queue.worker_table import WorkerState
from ..runs.runs import take_back
from ..slots.slot import EXIT_RESTART, EXIT_WRONG
from ..text.errors import UserError
from .awaited import Awaited
from .endings import Endings
from .finishing import Finisher
from .heart import Heart
from .leaving import Broken, LoadFailed, Outdated, Restart
from .loaded import Loaded, MeansByMethod, Models
from .making import Attempt, LostClaim, Patience
from .surroundings import REPORT_SECONDS, Surroundings, report

log = logging.getLogger("sweep.worker")

WAIT_SECONDS = 1.0
STEP_REPORT_SECONDS = 1.0
"""Between reports of steps, at least."""
TAKE_BACK_SECONDS = 1.0
"""Between a worker's looks for dead ones, at least, unless it has no other job."""
STEP_LOG_SECONDS = 30.0
FINISH_SECONDS = 60.0
"""For the video that is being finished when a worker gives up."""


class Worker:
    """One process in one slot. It is handed everything it works with.

    Args:
        methods: the sweep's.
        data: the folder in which the paths of the jobs' inputs start.
        stop: asked from outside (a signal) to end the job in hand and give it back.
        surroundings: disk, GPU and memory.
        show_step: told of each step, for a progress bar.
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        queue: Queue,
        methods: MeansByMethod,
        machine: Machine,
        data: Path,
        slot: Slot,
        taste: Taste,
        stop: Stop,
        patience: Patience,
        surroundings: Surroundings,
        show_step: Callable[[Claim, int, int], None] = lambda *_: None,
    ) -> None:
        self.run_folder = run
        self.queue = queue
        self.machine = machine
        self.slot = slot
        self.taste = taste
        self.stop = stop
        self.surroundings = surroundings
        self.show_step = show_step
        self.process = ProcessId.own()
        self._run_id = run_id(run)
        self._heart = Heart(
            pulse=run.lock(slot),
            patience=patience,
            held=lambda: list(self._held),
            renew=lambda attempt: queue.renew(attempt.claim),
            report=lambda: self._report(**self._memory()),
            give_up=self._give_up,
        )
        self._held: set[Attempt] = set()
        self._generating: Attempt | None = None
        self._finisher = Finisher(
            run=run,
            queue=queue,
            surroundings=surroundings,
            leave_if_astray=self._leave_if_astray,
            end=self._end,
        )
        self._endings = Endings(run, queue, slot, stop, surroundings.is_refusal)
        self._restart: str | None = None
        self._crowded = False
        self._last_done_at = 0.0
        self._lasting = 0.0
        self._group: str | None = None
        self._upstream = Upstream.of(run)
        self._awaited = Awaited(queue, self._upstream)
        self._models = Models(methods, machine, data, self._upstream)
        self._wanted: str | None = None
        self._jobs_done = 0
        self._next_take_back = 0.0
        self._next_report = 0.0
        self._next_log = 0.0

    def run(self) -> None:
        """Work until nothing is left to claim, or a stop is asked for.

        Raises:
            Restart: a new worker would be able to go on.
            LoadFailed: all that is left is made by methods whose model could not be loaded, and not
                for want of room on the disk.
            Broken: the backend broke at a job.
        """
        # Until one is made here, a job takes as long as others did.
        self._lasting = self.queue.mean_seconds() or 0.0
        if self._has_ended():
            # Before a large model is loaded in vain.
            return
        self.queue.workers.register(self.slot, self.process)
        state = WorkerState.STOPPED
        note: str | None = None
        try:
            with self._heart.beating():
                try:
                    self._work()
                finally:
                    # With the heart still beating: the last claim must outlast its encoding.
                    self._finisher.close()
        except Restart:
            state = WorkerState.RESTARTING
            raise
        except Exception as error:
            if is_disk_full(error):
                state, note = WorkerState.RESTARTING, "waits for room: the disk is full"
            raise
        finally:
            self._report(state=state, job=None, note=note, gpu_gib=None)
            self._models.close()

    def _load(self, name: str) -> None:
        """Load a method's model. Where it cannot be loaded, the jobs of other methods are made
        first."""
        self._group = None
        # Other methods' jobs take another time, and another room.
        self._lasting = self.queue.mean_seconds() or 0.0
        self.surroundings.begin_anew()
        if self._models.load(name):
            self._report_memory()
        else:
            self._report(state=WorkerState.WAITING, method=None)

    def _give_up_loading(self) -> bool:
        """End for the first model's reason: all that is left is made by methods whose model cannot
        be loaded here."""
        name, error = next(iter(self._models.unloadable.items()))
        if isinstance(error, UserError):
            raise error
        if kind_of(error) is FailureKind.OUT_OF_GPU_MEMORY:
            return self._cannot_load(error)
        raise LoadFailed(f"{name}: {told(error)}" if name else told(error)) from error

    def _cannot_load(self, error: Exception) -> bool:
        """Answer a lack of GPU memory while loading: wait for other people to leave the GPU, or
        leave the GPU to the sweep's other workers."""
        if self.surroundings.wait_for_gpu():
            raise Restart("the GPU's memory is free again") from error
        rows = self.queue.workers.rows()
        rows = [row for row in rows if row.slot.devices == self.slot.devices]
        if not any(not row.state.has_ended and row.slot != self.slot for row in rows):
            raise UserError(
                f"GPU {self.slot.devices.gpu}: the model does not fit its memory ({error}); see "
                "`sweep plan` for what it needs"
            ) from error
        reason = f"the model does not fit GPU {self.slot.devices.gpu} beside the other processes"
        self.queue.set_aside(self.slot, reason)
        log.warning("%s is set aside: %s", self.slot.name, reason)
        return False

    def _work(self) -> None:
        with contextlib.suppress(Interrupted):
            while not (self.stop.is_asked or self.stop.after_job) and self._turn():
                pass

    def _turn(self) -> bool:
        """Make one more job, load a model, or wait; return False once nothing is left to do."""
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self._load(wanted)
        try:
            self._look_around()
            return self._do_next()
        except Busy as error:
            # Only one that was asked to end waits no longer for the queue.
            log.warning("%s", error)
            return True
        except Exception as error:
            # The queue itself could not be written.
            if not self.surroundings.is_refusal(error):
                raise
            return True

    def _do_next(self) -> bool:
        if time.monotonic() >= self._next_take_back:
            self._take_back()
        self._awaited.look_now_and_then()
        asked_at = time.monotonic()
        claim = self._claim()
        claiming = time.monotonic() - asked_at
        if claim is not None:
            self._take_up(claim, claiming)
        elif self._take_back() or self._awaited.look():
            # There is a job to claim again.
            pass
        elif self._finisher.is_busy:
            # Should it fail, there is a job to claim again.
            self._finisher.settle()
        elif self._has_ended():
            return False
        elif (method := self.queue.next_method(self.slot, self._taste())) is not None:
            loaded = self._models.loaded
            if loaded is None or method != loaded.name:
                self._wanted = method
        elif self._models.unloadable and not any(self.queue.open_jobs(self._taste())):
            return self._give_up_loading()
        else:
            self._report(state=WorkerState.WAITING, job=None, note=self._awaited.note)
            self.stop.wait(WAIT_SECONDS)
        return True

    def _claim(self) -> Claim | None:
        if self._models.loaded is None:
            return None
        return self.queue.claim(
            self.slot, self.process, self._taste(), lasting=self._lasting, oom_kills=oom_kills()
        )

    def _taste(self, group: str | None = None) -> Taste:
        """What to claim next after a job of `group`; without one, after the job that was made
        last."""
        return replace(
            self.taste,
            group=group or self._group,
            method="" if self._models.loaded is None else self._models.loaded.name,
            without=tuple(self._models.unloadable),
        )

    def _take_back(self) -> bool:
        """Give back the jobs of dead and silent workers; return whether there were any."""
        self._next_take_back = time.monotonic() + TAKE_BACK_SECONDS
        taken = take_back(self.run_folder, self.queue)
        for lost in taken:
            log.warning("%s: %s", lost.claim.job.id, "; ".join((lost.error, *lost.verdict.notes)))
        return bool(taken)

    def _look_around(self) -> None:
        """Between jobs: end for a new worker, or wait until disk and GPU are well.

        Raises:
            Restart: a new worker is to go on.
            Broken: this worker can make no further job.
        """
        loaded = self._models.loaded
        if loaded is not None and (broken := loaded.engine.is_broken()) is not None:
            self._finisher.settle()
            raise Broken(broken)
        restart = self._restart or self.surroundings.recycle(
            self._jobs_done, self._models.processes()
        )
        if restart is not None:
            self._finisher.settle()
            raise Restart(restart)
        if self._crowded:
            self._finisher.settle()
            self._crowded = False
            self.surroundings.wait_for_gpu()
        if self.machine.device == "cuda":
            self.surroundings.check_health()
        shortage = self.surroundings.shortage()
        if shortage is not None:
            self._finisher.settle()
            self.surroundings.wait_for_room(shortage)

    def _has_ended(self) -> bool:
        """Whether there is nothing more to do for this worker, now or later; the log says why."""
        refusal = self.queue.refusal(self.slot, self._lasting)
        if refusal is not None:
            log.info("no further job is claimed: %s", refusal)
            return True
        pending, may_return = self.queue.open_jobs(self.taste)
        if pending or may_return or self._awaited.may_come():
            return False
        log.info("nothing is left to do; %d jobs done", self._jobs_done)
        return True

    def _leave_if_astray(self) -> None:
        """End this process where its run folder was moved or deleted: nobody owns what it would
        write at the former path. Its supervisor sees the same, and starts no other."""
        if not is_still(self.run_folder, self._run_id):
            log.error("%s: the run folder is gone, or is another run's", self.run_folder.path)
            logging.shutdown()
            os._exit(EXIT_WRONG)

    def _take_up(self, claim: Claim, claiming: float) -> None:
        self._leave_if_astray()
        # A worker may have been killed between publishing and recording it.
        if state_on_disk(self.run_folder, claim.job) is JobState.DONE:
            self.run_folder.drop(self.run_folder.scratch(claim.job))
            self._endings.found(claim)
        elif not self._is_current(claim.job):
            self.queue.give_back(claim)
            raise Outdated("the sweep was planned anew with other settings")
        else:
            self._do(claim, claiming)

    def _is_current(self, job: Job) -> bool:
        """Whether what this worker would make is what was planned."""
        return job.fingerprint == self._at_hand.identity.fingerprint_of(job)

    @property
    def _at_hand(self) -> Loaded:
        """The method that is loaded, while a job is in hand."""
        assert self._models.loaded is not None
        return self._models.loaded

    def _do(self, claim: Claim, claiming: float) -> None:
        """Generate a job, and hand it on to be finished while the next one is generated."""
        attempt = Attempt(claim)
        attempt.stages.seconds["claim"] = round(claiming, 4)
        self._held.add(attempt)
        log.info("%s: claimed (%s, attempt %d)", claim.job.id, claim.job.output, claim.attempt)
        try:
            pending = self._generate(attempt)
        except (Interrupted, LostClaim, Exception) as error:
            self._end(attempt, error)
        else:
            self._finisher.take(attempt, pending, self._at_hand)

    def _generate(self, attempt: Attempt) -> Any:
        job, run = attempt.job, self.run_folder
        scratch = run.scratch(job)
        for folder in (run.video(job).parent, scratch):
            run.make(folder)
        for leftover in run.temporaries(job):
            leftover.unlink(missing_ok=True)
        self._finisher.begin()
        loaded = self._at_hand
        engine = loaded.engine
        handed = loaded.inputs.hand_over(attempt)
        self._group = job.group
        self._look_ahead(job)
        attempt.from_step = engine.steps_kept(handed, scratch)
        if attempt.from_step:
            log.info("%s: goes on after step %d", job.id, attempt.from_step)
        self._generating = attempt
        try:
            with attempt.stage("generate"):
                pending = engine.generate(handed, scratch, self._on_step)
            attempt.kernels = engine.kernels(handed)
            return pending
        finally:
            self._generating = None

    def _look_ahead(self, job: Job) -> None:
        """Tell the engine of the next group, where this job seems to be the last of its own."""
        upcoming = self.queue.likely_next(self._taste(job.group))
        if upcoming is not None and upcoming.group != job.group:
            self._at_hand.inputs.look_ahead(upcoming)

    def _end(self, attempt: Attempt, error: BaseException | None) -> None:
        """Record the end of an attempt, and go on with the sweep whatever that end was."""
        claim = attempt.claim
        self._held.discard(attempt)
        if not isinstance(error, (LostClaim, Interrupted)) and not keeps_work(error):
            # While the claim is still held: whoever has the job next has this folder too.
            self.run_folder.drop(self.run_folder.scratch(attempt.job))
        if error is None:
            now = self.queue.clock()
            seconds = now - max(claim.claimed_at, self._last_done_at)
            self._last_done_at = now
            if not attempt.from_step:
                self._lasting = attempt.lasted
            self._endings.done(attempt, seconds)
            self._jobs_done += 1
            self._report_memory()
        elif isinstance(error, Interrupted):
            self._endings.given_back(attempt, "this worker was asked to stop")
        elif isinstance(error, Unmade):
            self._endings.put_off(attempt, str(error))
        elif isinstance(error, LostClaim):
            self._endings.lost(attempt)
        else:
            self._answer(attempt, error)

    def _answer(self, attempt: Attempt, error: BaseException) -> None:
        """Do what the failure's kind asks for."""
        kind = kind_of(error)
        message = told(error)
        if kind is FailureKind.BACKEND_BUG and self.surroundings.is_full():
            # An encoder whose disk is full says so in its own words.
            kind = FailureKind.DISK_FULL
        # Where a helper was killed, our own stack tells nothing.
        cause = None if was_killed(error) else error
        log.error("%s: %s: %s", attempt.job.id, kind.value, message, exc_info=cause)
        if kind is FailureKind.DISK_FULL:
            self.surroundings.refuse()
            self._endings.given_back(attempt, message, kind)
        elif kind is FailureKind.OUT_OF_GPU_MEMORY and self.surroundings.foreign_gib():
            self._crowded = True
            why = f"someone else uses this GPU's memory: {message}"
            self._endings.given_back(attempt, why, kind)
        else:
            self._endings.failed(attempt, kind, message)
            if ANSWERS[kind].restarts:
                self._restart = f"{kind.value} at {attempt.job.id}"

    def _give_up(self, attempt: Attempt, kind: FailureKind, why: str) -> None:
        """End a stuck attempt from the heart's thread, and this process with it: a thread that
        hangs cannot be ended in any other way."""
        log.error("%s: %s: %s", attempt.job.id, kind.value, why)
        self._held.discard(attempt)
        self._endings.failed(attempt, kind, why)
        self._finisher.settle(timeout=FINISH_SECONDS if self._generating is attempt else 0)
        for other in list(self._held):
            self._endings.given_back(other, "another job of this worker is stuck")
        self._report(state=WorkerState.RESTARTING, job=None, note=None)
        logging.shutdown()
        os._exit(EXIT_RESTART)

    # What a worker says.

    def _on_step(self, step: int, steps: int) -> None:
        attempt = self._generating
        assert attempt is not None
        if steps:
            attempt.step(steps)
        if self.stop.is_asked:
            raise Interrupted
        if attempt.is_lost:
            raise LostClaim
        if not steps:
            return
        self.show_step(attempt.claim, step, steps)
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + STEP_REPORT_SECONDS
            # Without a wait: here it would be the GPU's.
            report(self.queue, self.slot, 0, step=step, steps=steps)
        if now >= self._next_log:
            self._next_log = now + STEP_LOG_SECONDS
            log.info("%s: step %d of %d", attempt.job.id, step, steps)

    def _memory(self) -> dict[str, float]:
        """The memory that this process holds of its GPU, so that others can tell it from other
        people's; {} without a GPU."""
        loaded = self._models.loaded
        held = None if loaded is None else loaded.engine.memory().held
        return {} if held is None else {"gpu_gib": held}

    def _report_memory(self) -> None:
        # A write for each job is not for nothing to say.
        if memory := self._memory():
            self._report(**memory)

    def _report(self, **values: object) -> None:
        report(self.queue, self.slot, REPORT_SECONDS, **values)
