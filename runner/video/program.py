"""Which ffmpeg writes and checks videos."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources


def ffmpeg() -> str:
    """The ffmpeg that `$IMAGEIO_FFMPEG_EXE` names, else the one that imageio-ffmpeg brings.

    imageio-ffmpeg's own look for it runs it as a trial, and takes another one of the machine where
    that trial fails: a killed trial would have videos written by another encoder.

    Raises:
        RuntimeError: there is none.
    """
    return os.environ.get("IMAGEIO_FFMPEG_EXE") or _brought()


@lru_cache(maxsize=1)
def _brought() -> str:
    import imageio_ffmpeg

    binaries = resources.files("imageio_ffmpeg") / "binaries"
    if binaries.is_dir():
        for entry in binaries.iterdir():
            path = str(entry)
            if entry.name.startswith("ffmpeg-") and os.access(path, os.X_OK):
                return path
    # A package without it, as conda's.
    path = imageio_ffmpeg.get_ffmpeg_exe()
    return str(path)
