"""The settings for speed: what each computes, what it needs, and that none is on by itself."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from wan_jobs import job_of, moving_square, prepared, silent

from runner.backends import Interrupted
from runner.backends.wan.attention import attend_with, require_kernel
from runner.backends.wan.engine import WanEngine
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanSettings
from runner.backends.wan.tensor_file import write_tensors
from runner.job import Job
from runner.text.errors import UserError

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")

from runner.backends.wan import fast_blocks  # noqa: E402 - needs torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS = 6


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    clip = moving_square(tmp_path_factory.mktemp("clips") / "square.mp4", 6)
    return job_of(clip, fingerprint="f" * 64, num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def latents_of(cache: Path, job: Job, scratch: Path, **changes: Any) -> Any:
    engine = prepared(DEVICE, cache, job, keep_latents_every=0, **changes)
    return engine.latents(job, scratch, silent).double().cpu()


def distance(one: Any, other: Any) -> float:
    """Relative, in the 2-norm."""
    return float((one - other).norm() / other.norm())


def end_at(step: int) -> Any:
    def on_step(done: int, _total: int) -> None:
        if done == step:
            raise Interrupted

    return on_step


@pytest.fixture(scope="module")
def plain(cache: Path, job: Job) -> Any:
    return latents_of(cache, job, cache)


def test_blocks_as_one_function_compute_what_diffsynth_computes(
    cache: Path, job: Job, tmp_path: Path
) -> None:
    """In float32, where rounding hides nothing, the latents agree to five digits."""
    exact = latents_of(cache, job, tmp_path, dtype="float32")
    engine = prepared(DEVICE, cache, job, keep_latents_every=0, dtype="float32")
    attend = attend_with("torch")
    fast_blocks.use_fast_blocks(engine._pipe.dit, attend, compiled=False, fp8=False)
    ours = engine.latents(job, tmp_path, silent).double().cpu()
    assert 0 < distance(ours, exact) < 1e-5


def test_a_block_is_one_graph(cache: Path, job: Job, tmp_path: Path) -> None:
    """torch.compile follows it without a break, and one graph serves all blocks."""
    dit = prepared(DEVICE, cache, job)._pipe.dit
    fast_blocks.use_fast_blocks(dit, attend_with("torch"), compiled=False, fp8=False)
    graphs: list[Any] = []

    def count(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    run = torch.compile(dit.blocks[0]._run, backend=count, fullgraph=True, dynamic=False)
    x = torch.randn(1, 12, dit.dim, dtype=torch.bfloat16, device=DEVICE)
    rest = (
        torch.randn(1, 5, dit.dim, dtype=torch.bfloat16, device=DEVICE),
        torch.randn(1, 6, dit.dim, dtype=torch.bfloat16, device=DEVICE),
        torch.randn(12, 1, dit.dim // 16, dtype=torch.float32, device=DEVICE),
        torch.randn(12, 1, dit.dim // 16, dtype=torch.float32, device=DEVICE),
    )
    with torch.no_grad():
        for block in dit.blocks:
            out = run(block._weights, block._sizes, x, *rest)
            assert torch.equal(out, block._run(block._weights, block._sizes, x, *rest))
    assert len(graphs) == 1


@pytest.mark.parametrize("has_scale", [False, True])
def test_gelu_of_a_layer_is_that_of_its_sums(has_scale: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size, device=DEVICE) for size in ((1, 12, 16), (32, 16), (32,)))
    layer = fast_blocks.Linear(weight, bias, None)
    if has_scale:
        x, bias = x.bfloat16(), bias.bfloat16()
        rows, scale = fast_blocks.to_float8(weight)
        layer = fast_blocks.Linear(rows, bias, scale.t().contiguous())
    two_steps = torch.nn.functional.gelu(fast_blocks.linear(layer, x), approximate="tanh")
    assert torch.allclose(fast_blocks._gelu_linear(layer, x), two_steps, atol=1e-5)


def test_gelu_in_a_product_is_an_operator_that_compiles() -> None:
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size, device=DEVICE) for size in ((1, 12, 16), (32, 16), (32,)))
    torch.library.opcheck(fast_blocks._gelu_of_product, (x, weight, bias))
    sums = torch.nn.functional.linear(x, weight, bias)
    kind = "tanh" if DEVICE == "cuda" else "none"
    two_steps = torch.nn.functional.gelu(sums, approximate=kind)
    assert torch.allclose(fast_blocks._gelu_of_product(x, weight, bias), two_steps, atol=1e-5)


@pytest.mark.skipif(DEVICE == "cpu" and not shutil.which("g++"), reason="needs a compiler")
def test_compiled_blocks_compute_as_well_and_are_told_apart_by_their_kernels(
    cache: Path, job: Job, plain: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They round less often, and so are no further from float32 than the plain path, whose bits
    they are not. What was compiled is sealed and has a hash; latents of other kernels are not
    gone on from, which is said, and those of the same ones are."""
    caplog.set_level(logging.INFO, logger="sweep.wan")
    engine = prepared(DEVICE, tmp_path, job, keep_latents_every=1, compile=True)
    (sealed,) = tmp_path.glob("kernels/*.json")
    kernels = engine.kernels(job)
    assert json.loads(sealed.read_text())["hash"] == kernels
    whole = engine.latents(job, tmp_path / "whole", silent)
    assert "kernels were compiled in the middle" not in caplog.text

    exact = latents_of(cache, job, tmp_path, dtype="float32")
    compiled = whole.double().cpu()
    assert distance(compiled, plain) > 0
    assert distance(compiled, exact) < 1.1 * distance(plain, exact)

    scratch = tmp_path / "half"
    with pytest.raises(Interrupted):
        engine.latents(job, scratch, end_at(2))
    assert engine.steps_kept(job, scratch) == 2
    assert torch.equal(engine.latents(job, scratch, silent), whole)
    tensors = {"latents": whole}
    facts = {**engine._kept(job, scratch)._belongs, "kernels": "0" * 64, "step": "2"}
    write_tensors(scratch / "latents.safetensors", tensors, facts)
    assert engine.steps_kept(job, scratch) == 0
    assert torch.equal(engine.latents(job, scratch, silent), whole)
    (said,) = [record for record in caplog.messages if "begins anew" in record]
    assert f"kernels '{'0' * 40}', here '{str(kernels)[:40]}'" in said


def test_fp8_is_another_output_but_a_close_one(
    cache: Path, job: Job, plain: Any, tmp_path: Path
) -> None:
    """Much nearer than that of another seed."""
    found = distance(latents_of(cache, job, tmp_path, fp8=True), plain)
    other = latents_of(cache, replace(job, seed=43), tmp_path)
    assert 0 < found < distance(other, plain) / 2


def test_an_fp8_layer_is_the_layer_but_for_rounding() -> None:
    """Rows of very different size keep their digits, for each has its scale."""
    torch.manual_seed(0)
    size = 10.0 ** torch.linspace(-6, 3, 64)
    x = (torch.randn(1, 64, 256) * size[:, None]).bfloat16().to(DEVICE)
    weight = torch.randn(128, 256).bfloat16().to(DEVICE) / 16
    bias = torch.randn(128).bfloat16().to(DEVICE)
    rows, scale = fast_blocks.to_float8(weight)
    part = fast_blocks.Linear(rows, None, scale.t().contiguous())
    found = fast_blocks.linear(part, x).double()[0]
    exact = (x.double() @ weight.double().t())[0]
    assert float(((found - exact).norm(dim=1) / exact.norm(dim=1)).max()) < 0.05
    zero = fast_blocks.linear(part._replace(bias=bias), torch.zeros_like(x))
    assert torch.equal(zero[0], bias.expand(64, -1))


def forwards(engine: WanEngine, job: Job, scratch: Path, on_step: Any) -> tuple[int, Any]:
    """How often the blocks were run for a job, and its latents, None where it was ended."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = engine._pipe.dit.blocks[0].register_forward_hook(count)
    try:
        latents = engine.latents(job, scratch, on_step)
    except Interrupted:
        latents = None
    finally:
        hook.remove()
    return calls, latents


def test_tea_cache_leaves_steps_out(cache: Path, job: Job, plain: Any, tmp_path: Path) -> None:
    """Never the first and the last; with a threshold that nothing reaches, all others."""
    engine = prepared(DEVICE, cache, job, keep_latents_every=0, tea_cache=1e9)
    calls, latents = forwards(engine, job, tmp_path, silent)
    assert calls == 4
    assert distance(latents.double().cpu(), plain) > 0


@pytest.mark.parametrize(("threshold", "every"), [(0.05, 1), (0.2, 2), (1e9, 1)])
def test_tea_cache_goes_on_with_the_same_bytes(
    cache: Path, job: Job, threshold: float, every: int, tmp_path: Path
) -> None:
    """Wherever it is interrupted: what it carries is made again from the latents on disk."""
    engine = prepared(DEVICE, cache, job, keep_latents_every=every, tea_cache=threshold)
    scratch = tmp_path / "whole"
    whole = engine.latents(job, scratch, silent)
    for step in range(1, STEPS):
        scratch = tmp_path / str(step)
        assert forwards(engine, job, scratch, end_at(step))[1] is None
        assert engine.steps_kept(job, scratch) < step
        assert torch.equal(engine.latents(job, scratch, silent), whole)


def test_no_setting_for_speed_is_on_by_itself(tmp_path: Path) -> None:
    """And one that is on belongs to what decides the output; finished sweeps stay as they are."""
    identity = WanPlanner(WanSettings(), tmp_path).identity()
    assert set(identity) == {"weights", "dtype", "vae_tiling"}
    changed: list[dict[str, Any]] = [
        {"compile": True},
        {"attention": "cudnn"},
        {"fp8": True},
        {"tea_cache": 0.1},
    ]
    for change in changed:
        assert WanPlanner(WanSettings(**change), tmp_path).identity() == {**identity, **change}
    assert WanPlanner(WanSettings(keep_latents_every=7), tmp_path).identity() == identity


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": True, "vram": "managed"}, "vram: resident"),
        ({"fp8": True, "vram": "managed"}, "vram: resident"),
        ({"fp8": True, "dtype": "float32"}, "dtype: bfloat16"),
        ({"attention": "flash", "dtype": "float32"}, "dtype: bfloat16"),
        ({"attention": "flash_attention_2"}, "flash_attention_4"),
        ({"tea_cache": 0}, "greater than 0"),
        ({"tea_cache": True}, "must be a number"),
        ({"keep_latents_every": -1}, "greater than or equal to 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WanSettings(**settings)


def test_a_missing_compiler_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"compile: needs one of g\+\+"):
        WanPlanner(WanSettings(compile=True), tmp_path).check_launch("cpu", explicit=False)
    WanPlanner(WanSettings(), tmp_path).check_launch("cpu", explicit=False)


def test_a_missing_kernel_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="attention: cudnn needs a GPU"):
        WanPlanner(WanSettings(attention="cudnn"), tmp_path).check_launch("cpu", explicit=False)
    with pytest.raises(UserError, match=r"compute capability 9\.0, this one has 8\.9"):
        require_kernel("flash_attention_4", "cuda", (8, 9))
    with pytest.raises(UserError, match=r"pip install 'sweep-runner\[fast\]'"):
        require_kernel("flash_attention_4", "cuda", (9, 0))
    require_kernel("torch", "cpu", None)
    require_kernel("cudnn", "cuda", None)
