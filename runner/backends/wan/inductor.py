"""Inductor in this process: in a folder of its own, told what to choose, asked what it chose.

Generated source lies in a private folder, a part of it for each graph; beside a kernel's source
Inductor keeps the configuration that it chose, and takes the one that it finds there.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...disk.run_folder import is_locked
from .kernel_choices import CONFIGURED, KERNEL, Choices, Config, known_config

PREFIX = "sweep-kernels-"
LOCK = "lock"
INDUCTOR_CONFIG: dict[str, Any] = {
    # Reductions are not tuned: their configuration decides the order of a sum.
    "deterministic": True,
    # Choices come from the run folder, and from nowhere else.
    "force_disable_caches": False,
    "autotune_local_cache": True,
    "autotune_remote_cache": False,
    "bundled_autotune_remote_cache": False,
    "fx_graph_remote_cache": False,
}


def set_up() -> None:
    """Set what of Inductor's settings decides its choices, as far as this torch has it."""
    from torch._inductor import config

    for name, value in INDUCTOR_CONFIG.items():
        if hasattr(config, name):
            setattr(config, name, value)


def begin(graph: str, configs: Mapping[str, Config]) -> Path:
    """A folder for a graph's source, with the configurations that its kernels shall have; once
    the graph was compiled in this process, the folder in which that was done.

    Args:
        graph: names it: letters and digits.
        configs: by where Inductor looks for them in such a folder.
    """
    from torch._inductor import utils

    folder = _own_folder() / graph
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    if folder.exists():
        return folder
    folder.mkdir(mode=0o700)
    for name, config in configs.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dict(config)), encoding="utf-8")
    # What another graph has in memory would not be in this folder.
    getattr(utils, "clear_caches", lambda: None)()
    return folder


def chosen_in(folder: Path) -> Choices:
    """The kernels whose source lies in such a folder, and their configurations.

    A kernel that could be configured in one way only is decided by its source.
    """
    kernels, configs = [], {}
    for path in folder.glob("??/*"):
        name = f"{path.parent.name}/{path.name}"
        if KERNEL.fullmatch(name) and _is_kernel(path):
            kernels.append(name)
        elif CONFIGURED.fullmatch(name):
            configs[name] = known_config(json.loads(path.read_text(encoding="utf-8")))
    return Choices(tuple(sorted(kernels)), dict(sorted(configs.items())))


def _is_kernel(path: Path) -> bool:
    # A graph's own module names its folder, so that it is another one in every process.
    return path.suffix == ".cpp" or b"async_compile" not in path.read_bytes()


@functools.cache
def _own_folder() -> Path:
    """This process's folder, gone with it; those of processes that were killed go too."""
    parent = Path(tempfile.gettempdir())
    for other in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            is_ours = other.lstat().st_uid == os.getuid() and not other.is_symlink()
            if is_ours and (other / LOCK).exists() and not is_locked(other / LOCK):
                shutil.rmtree(other, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    # Held as long as this process lives. It is there only once it is held.
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / ".lock").rename(folder / LOCK)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
