"""Python, packages, torch against the driver, tmux and ffmpeg."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from ..backends.registry import OURS, installed, planner_class
from ..machine.gpus import Gpu, driver_versions
from ..plan.provenance import ffmpeg_version
from ..text.errors import UserError
from .finding import Finding, right, warning, wrong

DISTRIBUTION = "sweep-runner"
ANSWER_SECONDS = 180.0
ASK_TORCH = """
import json, torch
gpus = torch.cuda.device_count() if torch.version.cuda else 0
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "available": torch.cuda.is_available(),
    "gpus": gpus,
    "built_for": torch.cuda.get_arch_list() if gpus else [],
    "capabilities": [list(torch.cuda.get_device_capability(i)) for i in range(gpus)],
}))
"""


@dataclass(frozen=True)
class Torch:
    """What torch says of itself. `cuda` is the CUDA that it was built for, None for a CPU build;
    `built_for` are its architectures (sm_90), `capabilities` those of the GPUs that it sees."""

    version: str
    cuda: str | None
    available: bool
    gpus: int
    built_for: tuple[str, ...] = ()
    capabilities: tuple[tuple[int, int], ...] = ()


def check_python() -> Iterator[Finding]:
    version = platform.python_version()
    try:
        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        found = f"{version}; {DISTRIBUTION} is not installed, so what it needs is not known"
        yield wrong("Python", found, "make setup, or pip install -e '.[wan]'")
        return
    requirement = Requirement(f"python{wanted}")
    if requirement.specifier.contains(version, prereleases=True):
        yield right("Python", f"{version} ({sys.executable})")
    else:
        yield wrong("Python", f"{version}; {wanted} is needed", "make setup PYTHON=python3.12")


def check_packages(extras: Iterable[str]) -> Iterator[Finding]:
    """Every package that this one asks for, with these extras."""
    fine = 0
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        # `check_python` says so; what it asks for is then not known.
        return
    for text in wanted:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": e}) for e in ("", *extras)):
            continue
        remedy = f"pip install '{requirement.name}{requirement.specifier}', or make setup"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield wrong(f"package {requirement.name}", "is not installed", remedy)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fine += 1
        else:
            found = f"{version} is installed, {requirement.specifier} is needed"
            yield wrong(f"package {requirement.name}", found, remedy)
    yield right("packages", f"{fine} are there in the versions that are needed")


def check_backends() -> Iterator[Finding]:
    """The backends that other packages bring, each imported."""
    for one in installed():
        what = f"{one.name}, which {one.package} brings"
        if one.name in OURS:
            found = f"{what}, is never used: a backend of the sweep itself is called so"
            yield warning("backend", found, f"pip uninstall {one.package.partition(' ')[0]}")
            continue
        try:
            planner_class(one.name)
        except UserError as error:
            yield warning("backend", str(error), f"mend or uninstall {one.package}")
        else:
            yield right("backend", what)


def ask_torch() -> Torch | str:
    """What a process of its own says of torch, or the last line of its complaint."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing it took more than {ANSWER_SECONDS:g} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"it ended with status {done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Torch(
        answer["version"],
        answer["cuda"],
        answer["available"],
        answer["gpus"],
        tuple(answer["built_for"]),
        tuple((major, minor) for major, minor in answer["capabilities"]),
    )


def check_torch(torch: Torch | str, gpus: Iterable[Gpu]) -> Iterator[Finding]:
    """torch against the driver and the GPUs that NVML shows."""
    if isinstance(torch, str):
        yield wrong("torch", torch, "make setup, or pip install 'sweep-runner[wan]'")
        return
    here = list(gpus)
    driver = driver_versions()
    if not here:
        yield right("torch", f"{torch.version}; there is no GPU to use it with")
        return
    serves = driver.get("cuda_driver", "0.0")
    yield right("driver", f"{driver.get('nvidia_driver', '?')}, serves CUDA up to {serves}")
    yield judge_torch(torch, serves, len(here))


def judge_torch(torch: Torch, serves: str, gpus: int) -> Finding:
    """Whether that torch runs on GPUs whose driver serves CUDA up to `serves`.

    Within a major version of CUDA a newer build runs on an older driver:
    https://docs.nvidia.com/deploy/cuda-compatibility/
    """
    if torch.cuda is None:
        remedy = "install torch from the index for your CUDA: https://pytorch.org/get-started"
        return wrong(
            "torch", f"{torch.version} is built without CUDA; {gpus} GPUs are here", remedy
        )
    if _major(torch.cuda) > _major(serves):
        found = f"{torch.version} is built for CUDA {torch.cuda}, the driver serves {serves}"
        remedy = f"update the driver, or install a torch for CUDA {_major(serves)}"
        return wrong("torch", found, remedy)
    if not torch.available or torch.gpus < gpus:
        found = f"{torch.version} sees {torch.gpus} of {gpus} GPUs"
        return wrong("torch", found, "look at CUDA_VISIBLE_DEVICES, and whether nvidia-smi works")
    built = {name.partition("_")[2].rstrip("af") for name in torch.built_for}
    for major, minor in torch.capabilities:
        # Machine code of one architecture runs on later ones of the same major version.
        if not any(name[:-1] == str(major) and int(name[-1]) <= minor for name in built):
            found = f"{torch.version} has no code for these GPUs (sm_{major}{minor})"
            return wrong("torch", found, "install a newer torch")
    return right("torch", f"{torch.version}, CUDA {torch.cuda}, sees {torch.gpus} GPUs")


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


def check_programs() -> Iterator[Finding]:
    tmux = shutil.which("tmux")
    if tmux is None:
        remedy = "apt-get install tmux, or sweep launch --on local"
        yield warning("tmux", "is not installed", remedy)
    else:
        said = subprocess.run([tmux, "-V"], capture_output=True, text=True, check=False)
        yield right("tmux", f"{said.stdout.strip() or 'there'} ({tmux})")
    version = ffmpeg_version()
    if version is None:
        remedy = "pip install --force-reinstall imageio-ffmpeg"
        yield wrong("ffmpeg", "does not start", remedy)
    else:
        yield right("ffmpeg", f"{version}, which imageio-ffmpeg brings")
