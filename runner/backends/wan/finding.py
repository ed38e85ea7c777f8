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
    home = Path.home()
    # https://modelscope.cn/docs: its folder names have three underscores for a dot.
    modelscope = Path(environment.get("MODELSCOPE_CACHE") or home / ".cache/modelscope/hub")
    for spelling in dict.fromkeys((name, name.replace(".", "___"))):
        for parents in ("models/*", "hub/models/*", "*"):
            yield from sorted(modelscope.glob(f"{parents}/{spelling}"))
    # https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    hugging = Path(environment.get("HF_HOME") or home / ".cache/huggingface") / "hub"
    hub = Path(environment.get("HF_HUB_CACHE") or hugging)
    for model in sorted(hub.glob(f"models--*--{name}")):
        main = model / "refs" / "main"
        if main.is_file():
            yield model / "snapshots" / main.read_text(encoding="utf-8").strip()
        snapshots = [path for path in (model / "snapshots").glob("*") if path.is_dir()]
        yield from sorted(snapshots, key=lambda path: -path.stat().st_mtime)
