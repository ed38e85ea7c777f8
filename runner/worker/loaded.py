"""The method that a worker has loaded: what its videos are made with, and what is recorded of
it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends import Engine, Machine
from ..disk.upstream import Upstream
from ..experiment.experiment import Experiment
from ..experiment.method import Method
from ..job.axes import Axes
from ..job.failures import is_disk_full
from ..plan.fingerprint import MethodIdentity
from ..plan.provenance import provenance
from .inputs import Inputs
from .leaving import Outdated, Restart

log = logging.getLogger("sweep.worker")


@dataclass(frozen=True)
class Means:
    """What a method's videos are made with; nothing is loaded yet.

    Args:
        axes: those that its backend declares.
        identity: what decides its videos; a job that was planned with another one is not made.
        record: what every sidecar says beside the job's own: host, versions, GPU.
    """

    engine: Engine
    axes: Axes
    identity: MethodIdentity
    record: Mapping[str, Any]

    @classmethod
    def of(cls, method: Method, quality: float, device: str) -> Means:
        """The means of a method as its files are now.

        Raises:
            UserError: its model is not on this machine.
        """
        planner = method.planner()
        identity = MethodIdentity.of(method, quality, planner)
        with method.named():
            record = provenance(method, planner, identity, device)
            return cls(planner.engine(), planner.axes, identity, record)


MeansByMethod = Mapping[str, Callable[[], Means]]
"""What makes the means of each method of a sweep, by the method's name in the queue; a method
without a name is called "" there."""


def methods_of(experiment: Experiment, device: str) -> MeansByMethod:
    """The methods of an experiment, for a worker on `device` ("cuda" or "cpu")."""

    def means(method: Method) -> Callable[[], Means]:
        return lambda: Means.of(method, experiment.output.quality, device)

    return {method.name or "": means(method) for method in experiment.every_method}


class Loaded:
    """A method whose model is loaded, or being loaded.

    Args:
        name: in the queue.
        data: the folder in which the paths of the jobs' inputs start.
        upstream: has the videos of other runs.
    """

    def __init__(self, name: str, means: Means, data: Path, upstream: Upstream) -> None:
        self.name = name
        self.engine = means.engine
        self.identity = means.identity
        self.record = means.record
        self.inputs = Inputs(means.engine, means.axes, data, upstream)


class Models:
    """Loads the models of a sweep's methods, one at a time.

    Attributes:
        loaded: the method whose model is loaded; None at first, and after one could not be loaded.
        unloadable: the methods whose model could not be loaded, each with the reason.
    """

    def __init__(
        self, methods: MeansByMethod, machine: Machine, data: Path, upstream: Upstream
    ) -> None:
        self._methods = methods
        self._machine = machine
        self._data = data
        self._upstream = upstream
        self.loaded: Loaded | None = None
        self.unloadable: dict[str, Exception] = {}

    def load(self, name: str) -> bool:
        """Load a method's model in the place of the one that is loaded; return whether it could be.

        A method whose model could not be loaded is `unloadable`: its jobs come after all others.

        Raises:
            Outdated: the sweep has got a method that this worker does not know.
            Restart: the model before it cannot be closed.
            OSError: the disk is full.
        """
        if name not in self._methods:
            raise Outdated(f"the sweep was planned anew with a method {name}")
        if not self.close():
            raise Restart("the model that was loaded could not be closed")
        start = time.monotonic()
        try:
            self.loaded = Loaded(name, self._methods[name](), self._data, self._upstream)
            self.loaded.engine.load(self._machine)
        except Exception as error:
            if is_disk_full(error):
                raise
            self.unloadable[name] = error
            if len(self._methods) > 1:
                log.exception("%s: cannot be loaded; the others come first", called(name))
            self.close()
            return False
        seconds = time.monotonic() - start
        log.info("%s loaded in %.1f s on %s", called(name), seconds, self._machine.device)
        return True

    def close(self) -> bool:
        """Free the model that is loaded; return whether that went well."""
        loaded, self.loaded = self.loaded, None
        if loaded is None:
            return True
        try:
            loaded.engine.close()
        except Exception:
            # After a CUDA error nothing of it works any more.
            log.exception("the backend could not be closed")
            return False
        return True

    def processes(self) -> tuple[int, ...]:
        """The processes of the engine that is loaded, beside the worker's own."""
        return () if self.loaded is None else self.loaded.engine.processes()


def called(name: str) -> str:
    """The model of a method, for a line of the log."""
    return f"model of {name}" if name else "model"
