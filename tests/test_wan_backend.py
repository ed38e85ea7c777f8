"""The Wan backend, driven through the real diffsynth pipeline on the tiny checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import a_job, but
from PIL import Image
from pydantic import ValidationError
from random_checkpoint import random_numbers
from wan_headers import LARGE, UMT5, dit, vae, write_sparse
from wan_jobs import GENERATION, Frames, job_of, moving_square

from runner.backends import Machine
from runner.backends.registry import planner_class
from runner.backends.wan.engine import WanEngine
from runner.backends.wan.frames import pixels_of
from runner.backends.wan.made_up import write_checkpoint
from runner.backends.wan.offline import ENVIRONMENT, import_torch
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanGeneration, WanSettings
from runner.backends.wan.sizes import TINY
from runner.backends.wan.wide import widen
from runner.job import FileInput, Job
from runner.job.shape import Shape
from runner.text.errors import UserError
from runner.video import check_video, read_clip

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder's cache of every engine here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_square(tmp_path_factory.mktemp("clips") / "square.mp4", 6)


@pytest.fixture(scope="module")
def make(
    cache: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., WanEngine]:
    """Make a loaded engine with given settings, its reference prepared."""

    def make(**settings: Any) -> WanEngine:
        engine = WanPlanner(WanSettings(**settings), tmp_path_factory.mktemp("project")).engine()
        engine.load(Machine(DEVICE, cache))
        engine.prepare(
            a_job("c", "square", reference=FileInput(str(clip), ""), parameters=GENERATION).series
        )
        return engine

    return make


@pytest.fixture(scope="module")
def loaded(make: Callable[..., WanEngine]) -> WanEngine:
    return make()


@pytest.fixture
def engine(loaded: WanEngine, clip: Path) -> WanEngine:
    """The module's engine, prepared for the clip whatever a test before did."""
    loaded.prepare(
        a_job("c", "square", reference=FileInput(str(clip), ""), parameters=GENERATION).series
    )
    return loaded


@pytest.fixture
def job(clip: Path) -> Job:
    return job_of(clip)


def whole_pipe(engine: WanEngine) -> Any:
    """diffsynth's pipeline with all models that the engine's checkpoint has."""
    return engine._load(["dit", "text_encoder", "vae"])


def video_of(engine: WanEngine, job: Job, **parameters: Any) -> Frames:
    """The frames that the engine makes of a job, before they are encoded."""

    job = but(job, parameters={**job.parameters, **parameters})
    pending = engine.generate(job, Path(), lambda done, total: None)
    frames: Frames = pending.frames
    return frames


def diffsynths(
    engine: WanEngine, job: Job, clip: Path, parameters: dict[str, Any], **options: Any
) -> Frames:
    """The frames that `pipe(...)` makes of the same job."""
    size = {key: parameters[key] for key in ("width", "height", "num_frames")}
    images = whole_pipe(engine)(
        prompt=job.series.text("prompt"),
        negative_prompt="blurry",
        input_video=[Image.fromarray(frame) for frame in read_clip(clip, Shape(fps=8, **size))],
        seed=job.seed,
        num_inference_steps=parameters["num_inference_steps"],
        denoising_strength=parameters["denoising_strength"],
        **size,
        **{key: parameters[key] for key in parameters.keys() & {"cfg_scale", "sigma_shift"}},
        **options,
    )
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("vae_tiling", ["on", "off"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"denoising_strength": 0.8, "cfg_scale": 5.0},
        {"denoising_strength": 0.8, "cfg_scale": 1.0},
        {"denoising_strength": 1.0, "sigma_shift": 3.0},
    ],
    ids=str,
)
def test_frames_are_those_of_diffsynth_bit_for_bit(
    make: Callable[..., WanEngine],
    job: Job,
    clip: Path,
    parameters: dict[str, Any],
    vae_tiling: str,
) -> None:
    """Ours and `pipe(...)` agree exactly; 128 latent pixels of width make two tiles of each."""
    size = {"width": 1024, "height": 32, "num_frames": 5}
    engine = make(vae_tiling=vae_tiling)
    parameters = {**GENERATION, **size, "num_inference_steps": 2, **parameters}
    engine.prepare(
        a_job("c", "square", reference=FileInput(str(clip), ""), parameters=parameters).series
    )
    ours = video_of(engine, job, **parameters)

    theirs = diffsynths(engine, job, clip, parameters, tiled=vae_tiling == "on")
    assert np.array_equal(ours, theirs)


def test_tea_cache_leaves_out_what_diffsynths_does(
    make: Callable[..., WanEngine], job: Job, clip: Path
) -> None:
    parameters = {**GENERATION, "num_inference_steps": 16, "denoising_strength": 0.8}
    threshold = 0.3
    engine = make(tea_cache=threshold, vae_tiling="off")
    engine.prepare(
        a_job("c", "square", reference=FileInput(str(clip), ""), parameters=parameters).series
    )
    ours = video_of(engine, job, **parameters)
    cached = {"tea_cache_l1_thresh": threshold, "tea_cache_model_id": "Wan2.1-T2V-14B"}
    assert np.array_equal(ours, diffsynths(engine, job, clip, parameters, tiled=False, **cached))
    plain = diffsynths(engine, job, clip, parameters, tiled=False)
    assert not np.array_equal(ours, plain), "no step was left out"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_pixels_are_those_of_diffsynth_for_every_byte(dtype: str) -> None:
    import_torch()
    from diffsynth.diffusion.base_pipeline import BasePipeline

    random = np.random.default_rng(0)
    bytes_thrice = [random.permutation(256 * 3).reshape(16, 16, 3) % 256 for _ in range(5)]
    frames: Frames = np.stack(bytes_thrice).astype(np.uint8)
    pipe = BasePipeline(device="cpu", torch_dtype=getattr(torch, dtype))
    theirs = pipe.preprocess_video([Image.fromarray(frame) for frame in frames])
    ours = pixels_of(frames, device="cpu", dtype=pipe.torch_dtype)
    assert torch.equal(ours, theirs)
    assert ours.stride() == theirs.stride()


def test_one_job_leaves_a_whole_video(engine: WanEngine, job: Job, tmp_path: Path) -> None:
    """Generate reports every step; finish writes a file of the asked size, length and rate."""
    steps: list[tuple[int, int]] = []
    pending = engine.generate(job, tmp_path, lambda *step: steps.append(step))
    engine.finish(pending, tmp_path / "video.mp4", quality=5)
    check_video(tmp_path / "video.mp4", Shape(width=112, height=64, num_frames=9, fps=8))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_frames_are_neither_black_nor_white(engine: WanEngine, job: Job) -> None:
    """The tiny checkpoint's pictures have texture."""
    frames = video_of(engine, job)
    assert frames.std() > 20
    assert np.isin(frames, (0, 255)).mean() < 0.2


def test_prompt_seed_and_reference_each_change_the_frames(
    engine: WanEngine, job: Job, tmp_path: Path
) -> None:
    """And nothing else does: the same job gives the same frames."""
    frames = video_of(engine, job)
    assert np.array_equal(frames, video_of(engine, job))
    assert not np.array_equal(frames, video_of(engine, but(job, prompt_text="a dog")))
    assert not np.array_equal(frames, video_of(engine, replace(job, seed=43)))
    assert not np.array_equal(frames, video_of(engine, job, negative_prompt=""))
    other = moving_square(tmp_path / "other.mp4", 2)
    engine.prepare(
        a_job("c", "other", reference=FileInput(str(other), ""), parameters=GENERATION).series
    )
    assert not np.array_equal(frames, video_of(engine, job))


def test_full_strength_ignores_the_reference(engine: WanEngine, job: Job, tmp_path: Path) -> None:
    """At strength 1 the start is pure noise."""
    frames = video_of(engine, job, denoising_strength=1.0)
    other = moving_square(tmp_path / "other.mp4", 2)
    engine.prepare(
        a_job("c", "other", reference=FileInput(str(other), ""), parameters=GENERATION).series
    )
    assert np.array_equal(frames, video_of(engine, job, denoising_strength=1.0))


def test_a_job_can_end_at_a_step_and_the_next_is_unharmed(engine: WanEngine, job: Job) -> None:
    """What `on_step` raises passes through; the same job then gives the same frames."""
    frames = video_of(engine, job)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(job, Path(), stop)
    assert np.array_equal(frames, video_of(engine, job))


def test_finish_may_run_beside_the_next_job(
    engine: WanEngine, job: Job, clip: Path, tmp_path: Path
) -> None:
    """A video finished while others are prepared and generated is the one finished alone."""

    def silent(done: int, total: int) -> None:
        return None

    engine.finish(engine.generate(job, tmp_path, silent), tmp_path / "alone.mp4", quality=5)
    pending = engine.generate(job, tmp_path, silent)
    finish = threading.Thread(
        target=engine.finish, args=(pending, tmp_path / "beside.mp4"), kwargs={"quality": 5}
    )
    finish.start()
    for seed in range(3):
        engine.prepare(
            a_job("c", "square", reference=FileInput(str(clip), ""), parameters=GENERATION).series
        )
        engine.generate(replace(job, seed=seed), tmp_path, silent)
    finish.join()
    assert (tmp_path / "beside.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()


@pytest.mark.parametrize("limit", [None, 0.5])
def test_managed_memory_changes_no_pixel(
    make: Callable[..., WanEngine], engine: WanEngine, job: Job, limit: float | None
) -> None:
    """On a GPU the layers move; on a CPU there is nothing to move, and all stay."""
    managed = make(vram="managed", vram_limit_gb=limit)
    assert np.array_equal(video_of(managed, job), video_of(engine, job))
    assert np.array_equal(video_of(managed, job), video_of(engine, job))


def test_float32_is_another_computation(
    make: Callable[..., WanEngine], engine: WanEngine, job: Job
) -> None:
    """It runs, and its frames are close to bfloat16's but not the same."""
    precise = video_of(make(dtype="float32"), job).astype(int)
    difference = np.abs(precise - video_of(engine, job).astype(int)).mean()
    assert 0 < difference < 20


def test_pth_weights_give_the_frames_of_safetensors(
    make: Callable[..., WanEngine], engine: WanEngine, job: Job, tmp_path: Path
) -> None:
    """The format of the files does not matter, nor where the folder lies."""
    from safetensors.torch import load_file

    from runner.backends.wan.tiny import tiny_checkpoint

    tiny = tiny_checkpoint()
    shutil.copytree(tiny.tokenizer, tmp_path / "google" / "umt5-xxl")
    for path in (*tiny.dit, tiny.text_encoder, tiny.vae):
        torch.save(load_file(path), tmp_path / f"{path.stem}.pth")
    from_pth = make(checkpoint=str(tmp_path))
    assert np.array_equal(video_of(from_pth, job), video_of(engine, job))


def test_memory_is_reported_on_a_gpu_only(engine: WanEngine) -> None:
    """The peak starts afresh where it is asked for anew."""
    memory = engine.memory(anew=True)
    assert memory == engine.memory()
    held, peak = memory.held, memory.peak
    assert (held is None and peak is None) if DEVICE == "cpu" else held and peak and peak >= held


def test_close_leaves_a_backend_that_can_load_again(
    make: Callable[..., WanEngine], engine: WanEngine, job: Job, clip: Path, cache: Path
) -> None:
    """Loading again gives the same frames."""
    other = make()
    other.close()
    other.load(Machine(DEVICE, cache))
    other.prepare(
        a_job("c", "square", reference=FileInput(str(clip), ""), parameters=GENERATION).series
    )
    assert np.array_equal(video_of(other, job), video_of(engine, job))


def test_loading_reaches_for_no_network(tmp_path: Path) -> None:
    """A process that may open no connection imports and loads the checkpoint."""
    script = """
import socket, sys
from pathlib import Path

def refuse(*args, **kwargs):
    raise SystemExit(f"reached for the network: {args}")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from runner.backends import Machine
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanSettings
WanPlanner(WanSettings(), Path()).engine().load(Machine("cpu", Path()))
"""
    environment = {key: value for key, value in os.environ.items() if key not in ENVIRONMENT}
    environment |= {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_planning_needs_no_torch(tmp_path: Path) -> None:
    """Settings, identity and memory are answered where torch cannot be imported."""
    script = """
import sys
sys.modules["torch"] = sys.modules["diffsynth"] = sys.modules["numpy"] = None
from pathlib import Path
from runner.backends.registry import planner_class
planner = planner_class("wan")(planner_class("wan").settings_type(), Path())
planner.identity()
planner.peak_memory(planner.generation_type())
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_frames_of_another_count_than_4n_plus_1_are_refused() -> None:
    """The message names the nearest counts that work."""
    with pytest.raises(ValidationError, match=r"must be 4n\+1 .*77 and 81"):
        WanGeneration(num_frames=80)
    assert WanGeneration(num_frames=1).num_frames == 1


@pytest.mark.parametrize("key", ["width", "height"])
def test_sizes_not_divisible_by_16_are_refused(key: str) -> None:
    """The message names the nearest sizes that work."""
    with pytest.raises(ValidationError, match=r"divisible by 16.*832 and 848"):
        WanGeneration.model_validate({key: 840})


def test_bare_on_and_off_switch_tiling() -> None:
    """YAML 1.1 hands them over as booleans."""
    assert WanSettings.model_validate({"vae_tiling": False}).vae_tiling == "off"
    assert WanSettings.model_validate({"vae_tiling": True}).vae_tiling == "on"
    with pytest.raises(ValidationError, match="vae_tiling"):
        WanSettings.model_validate({"vae_tiling": 1})


def test_a_memory_limit_without_management_is_refused() -> None:
    """It would have no effect."""
    with pytest.raises(ValidationError, match="vram: managed"):
        WanSettings(vram_limit_gb=20)


def test_every_setting_is_described() -> None:
    """Descriptions are what the list of valid keys shows."""
    fields = WanSettings.model_fields | {"sigma_shift": WanGeneration.model_fields["sigma_shift"]}
    assert [name for name, field in fields.items() if not field.description] == []


def test_memory_of_the_full_size_is_what_was_measured(tmp_path: Path) -> None:
    """33.9 GiB resident, for the text encoder is gone by then, and 33.8 GiB managed."""

    def peak(**settings: Any) -> float:
        memory = WanPlanner(WanSettings(checkpoint="absent", **settings), tmp_path).peak_memory(
            WanGeneration()
        )
        assert memory is not None
        assert "published" in memory.source
        return memory.gib

    assert peak() == pytest.approx(33.9, abs=0.2)
    assert peak(vram="managed") == pytest.approx(33.8, abs=0.2)
    assert peak(vram="managed", vram_limit_gb=10) == pytest.approx(17.1, abs=0.5)
    assert peak(fp8=True) == pytest.approx(26.9, abs=0.2), "while it is loaded; 18.8 later"
    assert peak(dtype="float32") == pytest.approx(68, abs=1)


def test_the_backend_is_found_by_name() -> None:
    """With classes for its sections, and no memory to count for the tiny checkpoint."""
    planner = planner_class("wan")(WanSettings(), Path())
    assert isinstance(planner, WanPlanner)
    assert planner.peak_memory(WanGeneration()) is None
    planner.check_launch("cpu", explicit=False)


def test_a_full_size_checkpoint_needs_a_gpu_or_an_explicit_cpu(tmp_path: Path) -> None:
    """Refused on a CPU by default, with the setting that allows it."""
    write_checkpoint(tmp_path, TINY, random_numbers("cpu", 0), shards=1)
    (dit_file,) = tmp_path.glob("diffusion_pytorch_model*.safetensors")
    for path, shapes in (
        (dit_file, dit(*LARGE, 16)),
        (tmp_path / "models_t5_umt5-xxl-enc-bf16.safetensors", UMT5),
        (tmp_path / "Wan2.1_VAE.safetensors", vae()),
    ):
        write_sparse(path, shapes)  # takes no disk
    planner = WanPlanner(WanSettings(checkpoint=str(tmp_path)), tmp_path)
    with pytest.raises(UserError, match=r"placement\.device: cpu"):
        planner.check_launch("cpu", explicit=False)
    planner.check_launch("cpu", explicit=True)
    planner.check_launch("cuda", explicit=False)


def test_products_rounded_from_float32_are_those_of_bfloat16() -> None:
    """But for the last bit of a few: processors without AVX-512 take thirty times as long without
    the detour."""
    torch = import_torch()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv3d(16, 24, 3, padding=1), torch.nn.Linear(32, 48))
    model = model.to(torch.bfloat16)
    x = torch.randn(1, 16, 3, 8, 32, dtype=torch.bfloat16)
    with torch.no_grad():
        plain = [model[0](x).float(), model[1](x).float()]
        widen(model)
        wide = [model[0](x), model[1](x)]
    for one, other in zip(plain, wide, strict=True):
        assert other.dtype == torch.bfloat16
        assert (one != other.float()).float().mean() < 0.01
        assert (one - other.float()).abs().max() <= one.abs().max() / 128
