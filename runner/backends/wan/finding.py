"""Finding a checkpoint folder: where the experiment says, or by its name where weights are kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def find_checkpoint(
    root: Path,
    text: str,
    folders: Iterable[Path],
    environment: Mapping[str, str] = os.environ,
) -> Path:
    """The folder that `model.checkpoint` means on this machine.

    What is there under the path itself is taken; else a folder of its last name in `folders`,
    and then in the caches of ModelScope and of Hugging Face. Which of them it is makes no
    difference to a fingerprint: that has the content.

    Returns:
        The path itself where the name is nowhere else either.
    """
    path = root / Path(text).expanduser()
    if path.is_dir():
        return path
    for candidate in (*(folder / path.name for folder in folders), *cached(path.name, environment)):
        if candidate.is_dir():
            return candidate
    return path


def cached(name: str, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Folders of a model of that name in download caches, in the order to try them."""
    # https://modelscope.cn/docs: its folder names have three underscores for a dot.
    spellings = dict.fromkeys((name, name.replace(".", "___")))
    for folder in modelscope_folders(environment):
        for spelling in spellings:
            for parents in ("models/*", "hub/models/*", "*", "hub/*"):
                yield from sorted(folder.glob(f"{parents}/{spelling}"))
        for model in sorted(folder.glob(f"models/*--{name}")):
            yield from newest_first(model / "snapshots")
    for folder in hugging_face_folders(environment):
        for model in sorted(folder.glob(f"models--*--{name}")):
            main = model / "refs" / "main"
            if main.is_file():
                yield model / "snapshots" / main.read_text(encoding="utf-8").strip()
            yield from newest_first(model / "snapshots")


def hugging_face_folders(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Where Hugging Face's libraries keep what they download, in the order to look: by the first
    of these variables that is set, and by transformers' former own one as well.

    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables,
    https://huggingface.co/docs/transformers/installation#cache-directory
    """
    caches = _folder_named(environment, "XDG_CACHE_HOME") or Path.home() / ".cache"
    home = _folder_named(environment, "HF_HOME") or caches / "huggingface"
    hub = (
        _folder_named(environment, "HF_HUB_CACHE")
        or _folder_named(environment, "HUGGINGFACE_HUB_CACHE")
        or home / "hub"
    )
    own = _folder_named(environment, "TRANSFORMERS_CACHE")
    return [hub] if own in (None, hub) else [hub, own]


def modelscope_folders(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Where ModelScope keeps what it downloads, in the order to look: by the first of these
    variables that is set. Its default had `hub` behind it before 1.30.

    https://modelscope.cn/docs/models/download; MS_CACHE_HOME is a former name.
    """
    cache = _folder_named(environment, "MODELSCOPE_CACHE") or _folder_named(
        environment, "MS_CACHE_HOME"
    )
    default = Path.home() / ".cache" / "modelscope"
    return [default / "hub", default] if cache is None else [cache]


def newest_first(folder: Path) -> list[Path]:
    """The folders in a folder, those that were written to last first."""
    found = [path for path in folder.glob("*") if path.is_dir()]
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def _folder_named(environment: Mapping[str, str], name: str) -> Path | None:
    """The folder that a variable names: as it stands, if there is such a folder, else as the
    libraries read it, with `~` and variables in it. An empty one names none."""
    text = environment.get(name)
    if not text or Path(text).is_dir():
        return Path(text) if text else None
    return Path(os.path.expandvars(text)).expanduser()
