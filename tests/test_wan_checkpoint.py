"""Checkpoint folders: what must be in them, what tells them apart, and made-up ones."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from random_checkpoint import random_numbers

from runner.backends.model_file import BLOCK_BYTES, BLOCKS_READ, content_of
from runner.backends.wan import tiny
from runner.backends.wan.checkpoint import Checkpoint
from runner.backends.wan.made_up import write_checkpoint
from runner.backends.wan.memory import WeightCounts, weights_of
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanSettings
from runner.backends.wan.sizes import TINY
from runner.text.errors import UserError

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")

SHARD = "diffusion_pytorch_model-00001-of-00002.safetensors"
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "random_checkpoint.py"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random numbers in the tiny sizes, not to be changed."""
    folder = tmp_path_factory.mktemp("original")
    write_checkpoint(folder, TINY, random_numbers("cpu", 0), shards=2)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """The same files, a test's own."""
    return Path(shutil.copytree(original, tmp_path / "Wan 模型"))


def identity(folder: Path, **settings: Any) -> dict[str, Any]:
    return WanPlanner(WanSettings(checkpoint=str(folder), **settings), folder).identity()


def test_full_size_names_and_shapes_are_the_published_ones() -> None:
    """diffsynth takes the three files of a made-up 14B checkpoint for the published files."""
    from runner.backends.wan.sizes import FULL, tensors_of

    full = tensors_of(FULL)
    from diffsynth.configs import MODEL_CONFIGS
    from diffsynth.core.loader.file import convert_keys_dict_to_single_str

    known = {entry["model_hash"]: entry["model_name"] for entry in MODEL_CONFIGS}
    hashes = [
        hashlib.md5(convert_keys_dict_to_single_str(shapes).encode()).hexdigest()
        for shapes in (full.dit, full.text_encoder, full.vae)
    ]
    assert [name[:8] for name in hashes] == ["aafcfd96", "9c8818c2", "ccc42284"]
    assert [known[name] for name in hashes] == [
        "wan_video_dit",
        "wan_video_text_encoder",
        "wan_video_vae",
    ]


def test_memory_estimates_count_the_published_weights() -> None:
    """The numbers used where no file is at hand are those of the 14B models."""
    from runner.backends.wan.sizes import FULL, tensors_of

    full = tensors_of(FULL)
    counts = [sum(map(math.prod, s.values())) for s in (full.dit, full.text_encoder, full.vae)]
    assert [WeightCounts().dit, WeightCounts().text_encoder, WeightCounts().vae] == counts


def test_memory_estimates_count_the_weights_in_the_files(original: Path) -> None:
    """From the headers, whatever the number of shards."""
    from runner.backends.wan.sizes import tensors_of

    shapes = tensors_of(TINY)
    weights = weights_of(Checkpoint(original))
    assert weights.dit == sum(map(math.prod, shapes.dit.values()))
    assert weights.text_encoder == sum(map(math.prod, shapes.text_encoder.values()))
    assert weights.width == 256


def test_a_whole_folder_lacks_nothing(original: Path) -> None:
    """And is small."""
    assert Checkpoint(original).missing() == []
    assert not Checkpoint(original).full_size()


def test_every_missing_file_is_named(folder: Path) -> None:
    """Shards too, by the index or by their numbers."""
    for name in (SHARD, "models_t5_umt5-xxl-enc-bf16.safetensors", "Wan2.1_VAE.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "google")
    with pytest.raises(UserError) as by_index:
        identity(folder)
    (folder / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(UserError) as by_number:
        WanPlanner(WanSettings(checkpoint=str(folder)), folder).check_launch("cuda", explicit=False)
    for error in (by_index, by_number):
        message = str(error.value)
        assert "\n" not in message
        for name in (SHARD, "models_t5_umt5", "Wan2.1_VAE", "tokenizer_config", "tokenizer.json"):
            assert name in message


def test_an_absent_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Without an identity a plan cannot be made."""
    with pytest.raises(UserError, match=r"no such folder: .*nowhere.*model\.identity"):
        identity(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", None], ids=["", "lfs", "cut"]
)
def test_a_file_that_was_not_copied_whole_is_named(folder: Path, content: bytes | None) -> None:
    """Empty, a pointer in place of the file, or cut short."""
    path = folder / "Wan2.1_VAE.safetensors"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(UserError, match=r"Wan2\.1_VAE\.safetensors .*copy it again"):
        identity(folder)


def test_an_index_that_is_none_is_named(folder: Path) -> None:
    """Rather than a traceback."""
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("[]")
    with pytest.raises(UserError, match=r"index\.json is no index"):
        identity(folder)


def test_pth_serves_where_safetensors_is_absent(folder: Path) -> None:
    """Part by part."""
    torch.save({}, folder / "Wan2.1_VAE.pth")
    assert Checkpoint(folder).vae.suffix == ".safetensors"
    (folder / "Wan2.1_VAE.safetensors").unlink()
    assert Checkpoint(folder).vae.suffix == ".pth"
    assert Checkpoint(folder).missing() == []


def test_identity_is_the_same_in_another_folder(original: Path, folder: Path) -> None:
    """The folder's name and place, and files that are not loaded, are no part of it."""
    (folder / "README.md").write_text("about")
    (folder / "google" / "umt5-xxl" / ".cache").mkdir()
    (folder / "google" / "umt5-xxl" / ".cache" / "record").write_text("downloaded")
    assert identity(folder) == identity(original)
    assert identity(folder, vram="managed") == identity(original)


@pytest.mark.parametrize("place", [0, 9, 2000, -1])
@pytest.mark.parametrize(
    "name", [SHARD, "Wan2.1_VAE.safetensors", "google/umt5-xxl/tokenizer_config.json"]
)
def test_one_changed_byte_changes_the_identity(folder: Path, name: str, place: int) -> None:
    """In the header, in the weights, and at the end."""
    before = Checkpoint(folder).digest()
    content = bytearray((folder / name).read_bytes())
    content[place if place < len(content) else 20] ^= 1
    (folder / name).write_bytes(content)
    assert Checkpoint(folder).digest() != before


def test_large_files_are_sampled_from_first_to_last_byte(tmp_path: Path) -> None:
    """A change in a sampled block shows; the time to read does not grow with the file."""
    path = tmp_path / "large.pth"
    size = 3 * BLOCK_BYTES * BLOCKS_READ
    with path.open("wb") as file:
        file.truncate(size)
    plain = content_of(path)
    for place in (0, 10 * (size - BLOCK_BYTES) // (BLOCKS_READ - 1), size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\1")
        changed = content_of(path)
        assert changed["blocks"] != plain["blocks"]
        plain = changed


def test_settings_that_change_pixels_are_in_the_identity(original: Path) -> None:
    """Arithmetic and tiling are; how memory is managed is not."""
    settings: list[dict[str, Any]] = [{}, {"dtype": "float32"}, {"vae_tiling": "off"}]
    assert len({json.dumps(identity(original, **s)) for s in settings}) == 3


def test_a_given_digest_stands_for_absent_files_and_is_checked_against_present_ones(
    original: Path, folder: Path, tmp_path: Path
) -> None:
    """The fingerprint is the same with the files and without; another file's is an error."""
    digest = Checkpoint(original).digest()
    assert identity(tmp_path / "absent", identity=digest) == identity(original)
    assert identity(original, identity=digest) == identity(original)
    (folder / "google" / "umt5-xxl" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError) as error:
        identity(folder, identity=digest)
    assert digest in str(error.value)
    assert Checkpoint(folder).digest() in str(error.value)


def test_a_given_name_is_trusted(original: Path, tmp_path: Path) -> None:
    """Whether or not the files are there."""
    named = identity(tmp_path / "absent", identity="our fine-tune 3")
    assert named["weights"] == "our fine-tune 3"
    assert identity(original, identity="our fine-tune 3") == named


def test_a_command_prints_the_digest(original: Path, tmp_path: Path) -> None:
    """Which a plan on another machine can be given."""
    command = [sys.executable, "-m", "runner.backends.wan"]
    done = subprocess.run([*command, str(original)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Checkpoint(original).digest()
    failed = subprocess.run(
        [*command, str(tmp_path / "no")], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "no such folder" in failed.stderr


def test_the_tiny_checkpoint_is_whole_and_small() -> None:
    """It ships with the package: every file there, 24 MB at most, with its model card."""
    checkpoint = tiny.tiny_checkpoint()
    assert checkpoint.missing() == []
    files = [path for path in checkpoint.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 24e6
    assert (checkpoint.folder / "README.md").is_file()


def test_registering_twice_adds_nothing() -> None:
    """Every load registers."""
    tiny.register()
    from diffsynth.configs import MODEL_CONFIGS

    count = len(MODEL_CONFIGS)
    tiny.register()
    assert len(MODEL_CONFIGS) == count


@pytest.mark.parametrize(
    "text", ["a cat", "镜头缓慢仰角旋转，夕阳", "🙂👩‍🚀 ￼\u200b\x07", "x" * 9000, ""]
)
def test_the_tokenizer_takes_any_text(original: Path, text: str) -> None:
    """Nothing is unknown, and short texts come back as they were."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(original / "google" / "umt5-xxl"))
    ids = tokenizer(text, padding="max_length", truncation=True, max_length=512).input_ids
    assert len(ids) == 512
    assert max(ids) < 384
    assert 2 not in ids
    if len(text) < 100:
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("file_format", ["safetensors", "pth"])
def test_the_benchmark_writes_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    """Loadable, and with finite numbers."""
    spec = importlib.util.spec_from_file_location("random_checkpoint", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    arguments = [str(tmp_path / "made"), "--size", "tiny", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["random_checkpoint", *arguments, "--format", file_format])
    benchmark.main()

    from runner.backends.wan.pipeline import load_pipeline

    checkpoint = Checkpoint(tmp_path / "made")
    assert checkpoint.missing() == []
    pipe = load_pipeline(checkpoint, device="cpu", dtype="bfloat16", managed=False, vram_limit=None)
    assert all(torch.isfinite(weight).all() for weight in pipe.parameters())
