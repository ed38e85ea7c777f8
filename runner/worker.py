"""A worker: claim -> prepare -> generate -> finish -> check -> publish -> record.

One model serves many jobs. While one job is generated on the GPU, the one before it is encoded,
checked and published on another thread; the worker then holds both claims.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .attempts import Attempt, record_attempt
from .backends import Backend, Group, Machine
from .claim_order import Taste
from .fingerprint import Recipe
from .job import Job, JobState, Outcome
from .placement import Slot
from .processes import ProcessId, Stop
from .provenance import peak_host_memory_gib
from .publish import files_of, publish, state_on_disk
from .queue import HEARTBEAT_SECONDS, Claim, Queue
from .run_folder import RunFolder, sha256_file
from .sweep import take_back
from .video import check_video
from .worker_table import WorkerState

log = logging.getLogger("sweep.worker")

WAIT_SECONDS = 1.0
REPORT_SECONDS = 1.0
LOG_STEPS_SECONDS = 30.0


class Interrupted(BaseException):
    """The worker was asked to stop: its job goes back unharmed.

    Not an Exception, so that a backend that catches its own errors does not catch it.
    """


class LostClaim(BaseException):
    """The claim is no longer the worker's own: nothing of the job may be published."""


class Outdated(Exception):
    """The sweep was planned anew with other settings than this worker has loaded."""


@dataclass
class Stages:
    """Seconds per stage of one job, in the order in which the stages were entered."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.monotonic() - start, 4)

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self.seconds.items())


@dataclass(eq=False)
class Making:
    """One attempt of a job in the making. `is_lost` once its claim is another's."""

    claim: Claim
    stages: Stages = field(default_factory=Stages)
    is_lost: bool = False

    @property
    def job(self) -> Job:
        return self.claim.job


class Worker:
    """One process in one slot. It is handed everything it works with.

    Args:
        recipe: what its videos are made with; a job planned for another is not made.
        root: the project root, where the jobs' reference paths start.
        stop: asked from outside (a signal) to end the job in hand and give it back.
        record: what every sidecar says beside the job's own: host, versions, GPU.
        show_step: told of each step, for a progress bar.
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        queue: Queue,
        backend: Backend[Any],
        machine: Machine,
        recipe: Recipe,
        root: Path,
        slot: Slot,
        taste: Taste,
        stop: Stop,
        record: dict[str, Any],
        show_step: Callable[[Claim, int, int], None] = lambda *_: None,
    ) -> None:
        self.run_folder = run
        self.queue = queue
        self.backend = backend
        self.machine = machine
        self.recipe = recipe
        self.root = root
        self.slot = slot
        self.taste = taste
        self.stop = stop
        self.record = record
        self.show_step = show_step
        self.process = ProcessId.own()
        self._held: set[Making] = set()
        self._generating: Making | None = None
        self._finisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="finish")
        self._finishing: Future[None] | None = None
        self._last_done_at = 0.0
        self._group: str | None = None
        self._prepared: tuple[object, ...] | None = None
        self._jobs_done = 0
        self._next_report = 0.0
        self._next_log = 0.0

    def run(self) -> None:
        """Load the model and work until nothing is left to claim, or a stop is asked for.

        Raises:
            Outdated: the sweep was planned anew; a new worker would know how to go on.
        """
        self.queue.workers.register(self.slot, self.process, time.time())
        ended = threading.Event()
        heart = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        heart.start()
        try:
            start = time.monotonic()
            self.backend.load(self.machine)
            log.info("model loaded in %.1f s on %s", time.monotonic() - start, self.machine.device)
            self._work()
        finally:
            # With the heart still beating: the last video's claim must outlast its encoding.
            self._settle()
            self._finisher.shutdown()
            ended.set()
            heart.join()
            self._report(state=WorkerState.STOPPED, job=None)
            self.backend.close()

    def _work(self) -> None:
        while not self.stop.is_asked:
            take_back(self.run_folder, self.queue)
            taste = Taste(self._group, self.taste.home, self.taste.static)
            asked_at = time.monotonic()
            claim = self.queue.claim(self.slot, self.process, taste, time.time())
            claiming = time.monotonic() - asked_at
            if claim is not None:
                # A worker may have been killed between publishing and recording it.
                if state_on_disk(self.run_folder, claim.job) is JobState.DONE:
                    files = files_of(str(self.run_folder.video(claim.job)))
                    self.queue.finish(claim, time.time(), files=files)
                    log.info("%s: is on disk already", claim.job.id)
                elif not self._is_current(claim.job):
                    self.queue.give_back(claim)
                    raise Outdated(claim.job.id)
                else:
                    self._do(claim, claiming)
            elif self._finishing is not None:
                # Should it fail, there is a job to claim again.
                self._settle()
            elif self.queue.is_draining(self.slot.gpu):
                log.info("asked to stop: no further job is claimed")
                return
            else:
                pending, running = self.queue.open_jobs(self.taste)
                if not pending and not running:
                    log.info("nothing is left to do; %d jobs done", self._jobs_done)
                    return
                self._report(state=WorkerState.WAITING, job=None)
                self.stop.wait(WAIT_SECONDS)

    def _is_current(self, job: Job) -> bool:
        """Whether what this worker would make is what was planned."""
        return job.fingerprint == self.recipe.fingerprint(
            job.prompt_text, job.reference.sha256, job.seed
        )

    def _do(self, claim: Claim, claiming: float) -> None:
        """Generate a job, and hand it on to be finished beside the next one."""
        making = Making(claim)
        making.stages.seconds["claim"] = round(claiming, 4)
        self._held.add(making)
        log.info("%s: claimed (%s, attempt %d)", claim.job.id, claim.job.output, claim.attempt)
        try:
            pending = self._generate(making)
        except (Interrupted, LostClaim, Exception) as error:
            self._end(making, error)
        else:
            # One video at a time is finished, so that no more than two are ever in memory.
            self._settle()
            self._finishing = self._finisher.submit(self._finish, making, pending)

    def _settle(self) -> None:
        """Wait until the video being finished is published, or its end recorded."""
        if self._finishing is not None:
            finishing, self._finishing = self._finishing, None
            finishing.result()

    def _generate(self, making: Making) -> Any:
        job, run = making.job, self.run_folder
        scratch = run.scratch(job)
        run.video(job).parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        for leftover in run.temporaries(job):
            leftover.unlink(missing_ok=True)
        self._prepare(job, making.stages)
        self._generating = making
        try:
            with making.stages.time("generate"):
                return self.backend.generate(job, scratch, self._on_step)
        finally:
            self._generating = None

    def _finish(self, making: Making, pending: Any) -> None:
        try:
            self._publish(making, pending)
        except (LostClaim, Exception) as error:
            self._end(making, error)
        else:
            self._end(making, None)

    def _publish(self, making: Making, pending: Any) -> None:
        job, stages = making.job, making.stages
        temporary = self.run_folder.temporary(job)
        try:
            with stages.time("finish"):
                self.backend.finish(pending, temporary, self.recipe.quality)
            expected = {
                key: job.parameters[key] for key in ("width", "height", "num_frames", "fps")
            }
            with stages.time("check"):
                found = check_video(temporary, **expected)
            if not self.queue.renew(making.claim, time.time()):
                raise LostClaim
            sidecar = self._sidecar(making.claim, stages, asdict(found))
            with stages.time("publish"):
                publish(self.run_folder, job, temporary, sidecar)
        finally:
            temporary.unlink(missing_ok=True)

    def _end(self, making: Making, error: BaseException | None) -> None:
        """Record the end of an attempt, whatever it is: the sweep goes on."""
        claim, job, now = making.claim, making.job, time.time()
        self._held.discard(making)
        if not isinstance(error, LostClaim):
            # While the claim is still held: whoever has the job next has this folder too.
            shutil.rmtree(self.run_folder.scratch(job), ignore_errors=True)
        if error is None:
            seconds = now - max(claim.claimed_at, self._last_done_at)
            self._last_done_at = now
            busy = sum(making.stages.seconds.get(stage, 0.0) for stage in ("prepare", "generate"))
            files = files_of(str(self.run_folder.video(job)))
            state = self.queue.finish(claim, now, seconds=seconds, busy_seconds=busy, files=files)
            self._record(making, Outcome.DONE)
            log.info("%s: %s (%s)", job.id, state.value if state else "published", making.stages)
            self._jobs_done += 1
        elif isinstance(error, Interrupted):
            self.queue.give_back(claim)
            self._record(making, Outcome.INTERRUPTED)
            log.info("%s: given back, since this worker was asked to stop", job.id)
        elif isinstance(error, LostClaim):
            self._record(making, Outcome.LOST_CLAIM)
            log.warning("%s: the claim was lost; nothing was published", job.id)
        else:
            message = f"{type(error).__name__}: {error}".strip()
            state = self.queue.fail(claim, message, now)
            self._record(making, Outcome.FAILED, message)
            now_is = state.value if state else "not ours"
            log.error("%s: failed, now %s", job.id, now_is, exc_info=error)

    def _prepare(self, job: Job, stages: Stages) -> None:
        """Have the backend take in the job's reference, unless it is the one it has."""
        shape = [job.parameters[key] for key in ("width", "height", "num_frames", "fps")]
        wanted = (job.group, job.reference.sha256, *shape)
        if wanted == self._prepared:
            return
        self._prepared = None
        with stages.time("prepare"):
            path = self.root / job.reference.path
            if sha256_file(path) != job.reference.sha256:
                raise ValueError(f"{job.reference.path} has changed; run `sweep plan` again")
            self.backend.prepare(Group(job.group, path, job.parameters))
        self._prepared, self._group = wanted, job.group

    def _sidecar(self, claim: Claim, stages: Stages, video: dict[str, Any]) -> dict[str, Any]:
        job = claim.job
        peak = self.backend.peak_gpu_memory_gib()
        if peak is not None:
            log.info("%s: peak GPU memory %.1f GiB", job.id, peak)
        return {
            "category": job.category,
            "video_name": job.video,
            "prompt": {"number": job.prompt, "text": job.prompt_text},
            "seed": job.seed,
            "reference": {"path": job.reference.path, "sha256": job.reference.sha256},
            "parameters": job.parameters,
            "quality": self.recipe.quality,
            "video": video,
            "worker": self.slot.name,
            "attempt": claim.attempt,
            "claimed_at": claim.claimed_at,
            "finished_at": time.time(),
            "seconds": stages.seconds,
            "peak_gpu_memory_gib": None if peak is None else round(peak, 2),
            "peak_host_memory_gib": peak_host_memory_gib(),
            **self.record,
        }

    def _on_step(self, step: int, steps: int) -> None:
        making = self._generating
        assert making is not None
        if self.stop.is_asked:
            raise Interrupted
        if making.is_lost:
            raise LostClaim
        self.show_step(making.claim, step, steps)
        now = time.monotonic()
        if now >= self._next_report or step == steps:
            self._next_report = now + REPORT_SECONDS
            self._report(step=step, steps=steps)
        if now >= self._next_log:
            self._next_log = now + LOG_STEPS_SECONDS
            log.info("%s: step %d of %d", making.job.id, step, steps)

    def _report(self, **values: object) -> None:
        self.queue.workers.report(self.slot, time.time(), **values)

    def _record(self, making: Making, outcome: Outcome, error: str | None = None) -> None:
        attempt = Attempt(
            job=making.job.id,
            worker=self.slot.name,
            outcome=outcome,
            started_at=making.claim.claimed_at,
            ended_at=time.time(),
            error=error,
            seconds=making.stages.seconds,
        )
        record_attempt(self.run_folder.attempts, attempt)

    def _beat(self, ended: threading.Event) -> None:
        """Keep the leases alive beside the work, and notice when one is lost."""
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                self._report()
                for making in list(self._held):
                    renewed = self.queue.renew(making.claim, time.time())
                    making.is_lost = not renewed and making in self._held
            except Exception:
                # The lease bounds the harm: without a heartbeat the job goes to another worker.
                log.exception("heartbeat failed")
