"""What the Wan backend keeps in the run folder's cache, through the real models."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hand_made import but
from wan_jobs import PROMPT, job_of, load, moving_square, silent

from runner.backends import Machine
from runner.backends.wan.embeddings import TEXTS_AT_ONCE, PromptEmbeddings
from runner.backends.wan.engine import WanEngine
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanSettings
from runner.backends.wan.tensor_file import read_facts, read_tensors, try_to_write, write_tensors
from runner.disk.run_folder import locked
from runner.job import Job

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(moving_square(tmp_path / "square.mp4", 6))


def latents_of(engine: WanEngine, job: Job, scratch: Path) -> Any:
    engine.prepare(job.series)
    return engine.latents(job, scratch, silent).cpu()


def made(cache: Path) -> set[Path]:
    """The files of the cache, without locks."""
    return {path for path in cache.rglob("*.safetensors") if path.is_file()}


def test_cached_equals_uncached_bit_for_bit(job: Job, tmp_path: Path) -> None:
    """Embeddings and reference latents from the cache give the latents of those just made."""
    uncached = latents_of(load(DEVICE, tmp_path / "one"), job, tmp_path)
    files = made(tmp_path / "one")
    assert {path.parent.name for path in files} == {"prompts", "references"}
    assert len(files) == 3, "a prompt, its negative prompt, a reference"
    cached = latents_of(load(DEVICE, tmp_path / "one"), job, tmp_path)
    assert made(tmp_path / "one") == files
    assert torch.equal(cached, uncached)


def test_the_text_encoder_is_not_loaded_where_all_embeddings_are_there(
    job: Job, tmp_path: Path
) -> None:
    """It may even be gone from the disk by the time of denoising: nothing reads it."""
    cache = tmp_path / "cache"
    others = [but(job, prompt_text=text) for text in ("a dog", "a red ball")]
    jobs = [job, *others]
    first = load(DEVICE, cache, jobs)
    assert len(made(cache)) == 4
    assert first._pipe.text_encoder is None
    expected = latents_of(first, others[1], tmp_path)

    class Guarded(WanEngine):
        def _open_text_encoder(self) -> Any:
            raise AssertionError("the text encoder was loaded")

    second = Guarded(WanPlanner(first.settings, tmp_path))
    second.load(Machine(DEVICE, cache, jobs=lambda: jobs))
    assert torch.equal(latents_of(second, others[1], tmp_path), expected)


def test_memory_is_given_back_once_nothing_uses_it(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text encoder's before the other models are loaded, and what `fp8` replaces after."""
    models: list[weakref.ref[Any]] = []
    alive: list[list[bool]] = []

    class Watched(WanEngine):
        def _load(self, parts: Sequence[str]) -> Any:
            pipe = super()._load(parts)
            replaced = pipe.text_encoder if pipe.dit is None else pipe.dit.blocks[0].ffn
            models.append(weakref.ref(next(replaced.parameters())))
            return pipe

    def free(device: str) -> None:
        gc.collect()
        alive.append([model() is not None for model in models])

    monkeypatch.setattr("runner.backends.wan.engine.free_memory", free)
    engine = Watched(WanPlanner(WanSettings(fp8=True), tmp_path))
    engine.load(Machine(DEVICE, tmp_path, jobs=lambda: [job]))
    assert alive == [[False], [False, False]]


@pytest.mark.parametrize("damage", ["cut short", "a byte changed", "emptied"])
def test_a_damaged_file_is_made_again(job: Job, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    expected = latents_of(load(DEVICE, cache, [job]), job, tmp_path)
    good = {path: path.read_bytes() for path in made(cache)}
    for path, content in good.items():
        if damage == "cut short":
            path.write_bytes(content[:-100])
        elif damage == "emptied":
            path.write_bytes(b"")
        else:
            path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    assert torch.equal(latents_of(load(DEVICE, cache, [job]), job, tmp_path), expected)
    assert made(cache) == set(good)
    assert all(read_tensors(path) is not None for path in good)


def test_another_dtype_has_its_own_files(job: Job, tmp_path: Path) -> None:
    latents_of(load(DEVICE, tmp_path, [job]), job, tmp_path)
    latents_of(load(DEVICE, tmp_path, [job], dtype="float32"), job, tmp_path)
    assert len(made(tmp_path)) == 6


def test_what_another_recipe_prepared_is_not_taken(job: Job, tmp_path: Path) -> None:
    """A version that takes clips or prompts in in another way makes its own."""

    class NextRecipe(WanPlanner):
        recipe = WanPlanner.recipe + 1

    latents_of(load(DEVICE, tmp_path, [job]), job, tmp_path)
    later = NextRecipe(WanSettings(), tmp_path).engine()
    later.load(Machine(DEVICE, tmp_path, jobs=lambda: [job]))
    latents_of(later, job, tmp_path)
    assert len(made(tmp_path)) == 6


def test_a_clip_read_ahead_gives_the_same_latents(job: Job, tmp_path: Path) -> None:
    """Also where another file has taken its place meanwhile, and where another group comes."""
    clip = Path(job.series.file("reference").path)
    other = job_of(moving_square(tmp_path / "other.mp4", 2))
    expected = latents_of(load(DEVICE, tmp_path / "a"), other, tmp_path)
    engine = load(DEVICE, tmp_path / "b")
    engine.look_ahead(job.series)
    assert torch.equal(latents_of(engine, other, tmp_path), expected)

    engine = load(DEVICE, tmp_path / "c")
    engine.look_ahead(other.series)
    assert torch.equal(latents_of(engine, other, tmp_path), expected)

    engine = load(DEVICE, tmp_path / "d")
    engine.look_ahead(job.series)
    engine._references._pool.shutdown(wait=True)  # type: ignore[union-attr]
    clip.unlink()
    former = other.series.file("reference")
    moved = but(other, reference=replace(former, path=str(clip)))
    Path(former.path).rename(clip)
    assert torch.equal(latents_of(engine, moved, tmp_path), expected)


class Encoder:
    """Counts what it encodes; one word is one row."""

    def __init__(self) -> None:
        self.openings = 0
        self.texts: list[str] = []

    @contextmanager
    def open(self) -> Iterator[Any]:
        self.openings += 1
        yield self.encode

    def encode(self, text: str) -> Any:
        self.texts.append(text)
        embedding = torch.zeros((1, 8, 4), dtype=torch.bfloat16)
        embedding[0, : len(text.split())] = -len(text)
        return embedding


def test_workers_share_the_work_of_encoding(tmp_path: Path) -> None:
    """Beside one that is at it, another does something else, or waits and finds all there."""
    encoder, known = Encoder(), ["a", "b c", "a", "一 二 三"]
    workers = [
        PromptEmbeddings(tmp_path, {"encoder": 1}, encoder.open, lambda: known) for _ in range(4)
    ]
    with locked(tmp_path / "lock"):
        assert not workers[0].make_known(wait=False)
    threads = [
        threading.Thread(target=worker.make_known, kwargs={"wait": True}) for worker in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoder.openings == 1
    assert encoder.texts == ["a", "b c", "一 二 三"]
    assert torch.equal(workers[3].of("b c"), encoder.encode("b c"))


def test_all_prompts_are_made_before_the_other_models_are_loaded(tmp_path: Path) -> None:
    """However many there are: beside those models there may be no room for the text encoder."""
    encoder = Encoder()
    known = [f"prompt {number}" for number in range(TEXTS_AT_ONCE + 10)]
    worker, other = (PromptEmbeddings(tmp_path, {}, encoder.open, lambda: known) for _ in range(2))
    assert worker.make_known(wait=False)
    assert other.make_known(wait=True)
    assert other.of(known[-1]) is not None
    assert (encoder.openings, len(encoder.texts)) == (1, len(known))


def test_a_prompt_that_was_added_later_is_made_with_the_others(tmp_path: Path) -> None:
    """One loading of the text encoder serves for all that are missing by then."""
    encoder, known = Encoder(), [PROMPT]
    worker = PromptEmbeddings(tmp_path, {}, encoder.open, lambda: known)
    assert worker.make_known(wait=False)
    known += ["new", "", "newer"]
    assert torch.equal(worker.of("newer")[0, :, 0], torch.tensor([-5.0] + 7 * [-0.0]))
    assert torch.equal(worker.of(""), torch.zeros((1, 8, 4), dtype=torch.bfloat16))
    assert encoder.openings == 2
    assert worker.of("new").dtype == torch.bfloat16


def test_one_loading_of_the_text_encoder_mends_all_that_is_damaged(tmp_path: Path) -> None:
    encoder, known = Encoder(), ["a", "b c", "一 二 三", "d"]
    worker = PromptEmbeddings(tmp_path, {}, encoder.open, lambda: known)
    assert worker.make_known(wait=False)
    for text in ("a", "一 二 三"):
        worker.path(text).write_bytes(worker.path(text).read_bytes()[:-1])
    worker.path("d").unlink()
    for text in known:
        assert torch.equal(worker.of(text), Encoder().encode(text))
    assert encoder.openings == 2
    assert sorted(encoder.texts[len(known) :]) == sorted(["a", "一 二 三", "d"])


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {"一": torch.randn(3, 5).bfloat16(), "b": torch.arange(4)}
    write_tensors(tmp_path / "深" / "x", tensors, {"step": "3", "名": "值"})
    assert read_facts(tmp_path / "深" / "x").items() >= {"step": "3", "名": "值"}.items()
    found = read_tensors(tmp_path / "深" / "x")
    assert found is not None
    assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)
    assert found[1] == {"step": "3", "名": "值"}
    assert read_tensors(tmp_path / "absent") is None


def test_tensors_that_cannot_be_written_are_done_without(tmp_path: Path) -> None:
    """They save time and no more: the job goes on."""
    (tmp_path / "folder").touch()
    path = tmp_path / "folder" / "x"
    with pytest.raises(OSError, match="folder"):
        write_tensors(path, {}, {})
    assert not try_to_write(path, {}, {})
