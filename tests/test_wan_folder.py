"""A checkpoint folder that is not what it should be: told and refused by plan and doctor."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, Project
from wan_headers import (
    FIVE,
    LARGE,
    SMALL,
    UMT5,
    Shapes,
    conv,
    dit,
    lora,
    of_comfyui,
    of_diffusers,
    scaled,
    vae,
    write_shards,
    write_sparse,
)

from runner.backends.wan.checkpoint import DIT, TEXT_ENCODER, VAE, Checkpoint
from runner.backends.wan.judgement import judge
from runner.backends.wan.tiny import tiny_checkpoint

T2V, I2V = dit(*LARGE, 16), dit(*LARGE, 36, image=True)

SIZE = {"width": 832, "height": 480, "num_frames": 9, "fps": 15, "num_inference_steps": 4}


@pytest.fixture
def wan(project: Project) -> Project:
    """A project whose checkpoint, `models/Wan2.1-T2V-14B`, is whole but for a DiT."""
    folder = project.root / "models" / "Wan2.1-T2V-14B"
    shutil.copytree(tiny_checkpoint().tokenizer, folder / "google" / "umt5-xxl")
    write_sparse(folder / f"{TEXT_ENCODER}.safetensors", UMT5)
    write_sparse(folder / f"{VAE}.safetensors", vae(), "F32")
    project.write(backend="wan", model={"checkpoint": "models/Wan2.1-T2V-14B"}, generation=SIZE)
    return project


def folder_of(project: Project) -> Path:
    return project.root / "models" / "Wan2.1-T2V-14B"


def planned(project: Project, *words: str) -> Finished:
    return project.call("plan", "experiments/x.yaml", "--skip-invalid", *words)


def refused(project: Project, *says: str) -> str:
    """`plan` refuses with status 2, in two lines at most, and has made no run folder."""
    done = planned(project)
    assert done.status == 2, done.out
    assert 1 <= len(done.err.splitlines()) <= 2, done.err
    assert not project.run_folder.manifest.exists()
    for text in says:
        assert text in done.err
    return done.err


def doctored(project: Project) -> dict[str, list[dict[str, Any]]]:
    """The findings of `doctor` by name."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(project.call("doctor", "experiments/x.yaml", "--json").out)["findings"]:
        by_name.setdefault(one["name"], []).append(one)
    return by_name


def wrongs(findings: dict[str, list[dict[str, Any]]]) -> list[str]:
    return [f"{o['what']}; {o['remedy']}" for o in findings["model"] if o["verdict"] == "wrong"]


def test_plan_and_doctor_say_which_model_it_is(wan: Project) -> None:
    write_shards(folder_of(wan), T2V, 6, "F32")
    what = "Wan2.1 T2V 14B in F32, 14.3 billion weights"
    done = planned(wan)
    assert done.status == 0, done.err
    assert f"model: {what}" in done.out.splitlines()
    assert json.loads(planned(wan, "--json").out)["model_is"] == what
    found = doctored(wan)
    assert wrongs(found) == []
    assert found["model"][0]["what"] == what
    files = [one["what"] for one in found["model"]]
    assert any("UMT5-XXL in BF16, its header is whole" in one for one in files)
    assert any("the VAE of Wan2.1 in F32" in one for one in files)


def test_the_smaller_model_in_the_larger_ones_place_is_told(wan: Project) -> None:
    """It is loaded as any other; the plan says which it is."""
    write_sparse(folder_of(wan) / f"{DIT}.safetensors", dit(*SMALL, 16))
    assert "model: Wan2.1 T2V 1.3B in BF16, 1.42 billion weights" in planned(wan).out


def test_weights_under_a_given_name_are_looked_at_too(wan: Project) -> None:
    """A name vouches for weights, not for another model in their place."""
    model = {"checkpoint": "models/Wan2.1-T2V-14B", "identity": "ours"}
    wan.write(backend="wan", model=model, generation=SIZE)
    assert planned(wan).status == 0
    shutil.rmtree(wan.root / "results")
    write_sparse(folder_of(wan) / f"{DIT}.safetensors", I2V)
    refused(wan, f"{DIT}.safetensors is Wan2.1 I2V 14B in BF16")


def test_another_model_is_refused_before_its_missing_files_are(wan: Project) -> None:
    """A 5B folder has another VAE: that it lacks Wan2.1's would say nothing."""
    write_shards(folder_of(wan), dit(*FIVE, 48, out=48), 3)
    (folder_of(wan) / f"{VAE}.safetensors").unlink()
    error = refused(wan, "00001-of-00003.safetensors (and 2 more) is Wan2.2 TI2V 5B in BF16")
    assert "fetch the files of Wan-AI/Wan2.1-T2V-14B" in error
    assert "Wan2.1_VAE" not in error
    found = doctored(wan)
    assert "Wan2.2 TI2V 5B" in "\n".join(wrongs(found))
    # The others are examined all the same.
    assert {"clips", "prompts", "disk", "host memory", "file system", "clock"} <= set(found)


def test_parts_that_do_not_belong_together(wan: Project) -> None:
    folder = folder_of(wan)
    write_sparse(folder / f"{DIT}.safetensors", T2V)
    write_sparse(
        folder / f"{VAE}.safetensors",
        conv("encoder.conv1", 160, 12, 3, 3, 3) | conv("conv2", 48, 48, 1, 1, 1),
    )
    refused(wan, f"{VAE}.safetensors is the VAE of Wan2.2 TI2V 5B in BF16, which belongs to")
    write_sparse(folder / f"{VAE}.safetensors", UMT5)
    refused(wan, f"{VAE}.safetensors is UMT5-XXL in BF16, and no VAE")
    shutil.copy(tiny_checkpoint().vae, folder / f"{VAE}.safetensors")
    shutil.copy(tiny_checkpoint().text_encoder, folder / f"{TEXT_ENCODER}.safetensors")
    refused(wan, "is sweep's tiny text encoder in BF16, which does not belong to Wan2.1 T2V 14B")
    shutil.copy(folder / f"{VAE}.safetensors", folder / f"{DIT}.safetensors")
    refused(wan, f"{DIT}.safetensors is sweep's tiny VAE in BF16, and no DiT")


def shards_below(name: str, shapes: Shapes) -> Callable[[Path], None]:
    return lambda folder: (write_shards(folder / name, shapes, 2), None)[1]


def loose(name: str, shapes: Shapes, dtype: str = "BF16") -> Callable[[Path], None]:
    return lambda folder: (write_sparse(folder / name, shapes, dtype), None)[1]


def bytes_in(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder.joinpath(name).write_bytes(content), None)[1]


INSTEAD: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "Wan2.2 T2V": (
        shards_below("high_noise_model", T2V),
        ["high_noise_model has Wan2.2 T2V A14B (its half for high noise)", "load one; fetch"],
    ),
    "Wan2.2 I2V": (
        shards_below("low_noise_model", dit(*LARGE, 36)),
        ["low_noise_model has Wan2.2 I2V A14B in BF16, which starts from an image"],
    ),
    "diffusers": (
        shards_below("transformer", of_diffusers(T2V)),
        ["transformer has Wan2.1 T2V 14B in BF16, in the layout of diffusers"],
    ),
    "too deep": (
        shards_below("Wan2.1-T2V-14B", T2V),
        ["Wan2.1-T2V-14B has Wan2.1 T2V 14B in BF16, one folder too deep; move its files"],
    ),
    "ComfyUI": (
        loose("wan2.1_t2v_14B_fp8_scaled.safetensors", scaled(T2V), "F8_E4M3"),
        ["wan2.1_t2v_14B_fp8_scaled.safetensors is Wan2.1 T2V 14B in F8_E4M3 with scales"],
    ),
    "another name": (
        loose("wan2.1_t2v_14B_bf16.safetensors", T2V),
        ["is Wan2.1 T2V 14B in BF16; rename it to diffusion_pytorch_model.safetensors"],
    ),
    "LoRA": (
        loose("lightx2v_rank64.safetensors", lora(5120, 40, 64, style="comfyui")),
        ["lightx2v_rank64.safetensors is a LoRA of rank 64 of Wan 14B", "is none; fuse it"],
    ),
    "GGUF": (
        bytes_in("wan2.1-t2v-14b-Q4_K_M.gguf", b"GGUF\3\0\0\0" + bytes(99)),
        ["wan2.1-t2v-14b-Q4_K_M.gguf is GGUF", "Wan-AI/Wan2.1-T2V-14B, in safetensors"],
    ),
    "GGUF by another name": (
        bytes_in(f"{DIT}.safetensors", b"GGUF\3\0\0\0" + bytes(99)),
        [f"{DIT}.safetensors is GGUF"],
    ),
    "I2V": (
        loose(f"{DIT}.safetensors", I2V),
        [f"{DIT}.safetensors is Wan2.1 I2V 14B in BF16, which starts from an image"],
    ),
    "fp8 of ComfyUI under the published name": (
        loose(f"{DIT}.safetensors", of_comfyui(scaled(T2V)), "F8_E4M3"),
        ["is Wan2.1 T2V 14B in F8_E4M3 with scales", "set model.fp8: true"],
    ),
    "a pointer": (
        bytes_in(f"{DIT}.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha"),
        ["is the pointer that Git LFS leaves in place of a file; copy it again"],
    ),
    "a web page": (
        bytes_in(f"{DIT}.safetensors", b"<!DOCTYPE html><title>Sign in</title>"),
        ["is a web page; copy it again"],
    ),
}


@pytest.mark.parametrize("case", INSTEAD)
def test_what_lies_there_in_place_of_the_model_is_refused(wan: Project, case: str) -> None:
    put, says = INSTEAD[case]
    put(folder_of(wan))
    refused(wan, str(folder_of(wan)), *says)


@pytest.mark.parametrize("name", ["wan.gguf", "wan.safetensors"])
def test_a_file_in_place_of_the_folder(wan: Project, name: str) -> None:
    path = wan.root / "models" / name
    if name.endswith("gguf"):
        path.write_bytes(b"GGUF\3\0\0\0" + bytes(99))
    else:
        write_sparse(path, T2V)
    wan.write(backend="wan", model={"checkpoint": f"models/{name}"}, generation=SIZE)
    says = "is GGUF" if name.endswith("gguf") else "is Wan2.1 T2V 14B in BF16, and no folder; give"
    refused(wan, name, says)


# What lies in a folder that should not, or not yet.


def test_two_sets_of_weights_in_one_folder(wan: Project) -> None:
    """They would be loaded over one another."""
    write_shards(folder_of(wan), T2V, 6)
    write_shards(folder_of(wan), T2V, 7)
    refused(wan, "one of 2 sets of weights in one folder: 6 of 6 shards", "7 of 7 shards", "move")
    for path in folder_of(wan).glob("*-of-00007.safetensors"):
        path.unlink()
    write_sparse(folder_of(wan) / f"{DIT}.safetensors", T2V)
    refused(wan, f"sets of weights in one folder: 6 of 6 shards {DIT}-…-of-00006, {DIT}.saf")


@pytest.mark.parametrize("mark", [" (1)", "(2)", " - Copy", " copy 2", " - 副本"])
def test_a_browsers_copy(wan: Project, mark: str) -> None:
    shards = write_shards(folder_of(wan), T2V, 3)
    copy = shards[1].with_name(f"{shards[1].stem}{mark}.safetensors")
    copy.hardlink_to(shards[1])
    refused(wan, f"{copy.name} is a second copy of {shards[1].name}; delete it")
    shards[1].unlink()
    refused(wan, f"{copy.name} has the name of a copy; rename it to {shards[1].name}")
    copy.unlink()
    vae = folder_of(wan) / f"{VAE}.safetensors"
    vae.rename(vae.with_stem(f"{vae.stem}{mark}"))
    error = refused(wan, f"lacks {shards[1].name}, ")
    assert f"there is '{VAE}{mark}.safetensors': rename it" in error


@pytest.mark.parametrize("mark", [".aria2", ".part", ".incomplete", ".crdownload", ".download"])
def test_a_download_that_has_not_ended(wan: Project, mark: str) -> None:
    """Beside a shard of the full length, and in place of one."""
    shards = write_shards(folder_of(wan), T2V, 3)
    beside = shards[2].with_name(shards[2].name + mark)
    beside.write_bytes(b"\0" * 64)
    refused(wan, f"{shards[2].name} has {beside.name} beside it: its download has not ended; let")
    shards[2].unlink()
    refused(wan, f"lacks {shards[2].name} (its download has not ended: {beside.name});")


def test_downloads_that_tools_keep_in_folders_of_their_own(wan: Project) -> None:
    shards = write_shards(folder_of(wan), T2V, 3)
    shards[0].unlink()
    folder = folder_of(wan) / ".cache" / "huggingface" / "download"
    folder.mkdir(parents=True)
    (folder / "abc.def.incomplete").write_bytes(b"")
    refused(wan, f"lacks {shards[0].name} (a download has not ended: .cache/huggingface/")


def test_shards_that_are_not_their_indexs(wan: Project) -> None:
    """One of another set under the right name; and a sum of bytes that is another is told."""
    folder = folder_of(wan)
    shards = write_shards(folder, T2V, 3)
    other = write_shards(wan.root / "other", T2V, 3, "F32")
    index = folder / f"{DIT}.safetensors.index.json"
    shutil.copy(other[0].parent / index.name, index)
    assert planned(wan).status == 0
    shutil.rmtree(wan.root / "results")
    (note,) = (s.note for s in judge(Checkpoint(folder)).states if s.file == index.name)
    assert note == "it says 57153966336 bytes of tensors, and its shards hold 28576983168"
    shards[1].unlink()
    shards[1].hardlink_to(shards[0])
    refused(wan, f"{shards[1].name} lacks ", "that diffusion_pytorch_model.safetensors.index.json")


def test_a_shard_that_was_cut_short(wan: Project) -> None:
    shards = write_shards(folder_of(wan), T2V, 3)
    size = shards[1].stat().st_size
    with shards[1].open("r+b") as file:
        file.truncate(size - 4096)
    refused(wan, f"{shards[1].name} has {size - 4096} bytes and should have {size}; copy it again")


def test_a_pth_is_taken_by_its_name_where_it_is_whole(wan: Project) -> None:
    """What torch wrote before its files were zips counts as well."""
    path = folder_of(wan) / f"{DIT}.pth"
    path.write_bytes(b"PK\3\4" + bytes(99))
    refused(wan, f"{path.name} is no file that torch saved, or was cut short; copy it again")
    path.write_bytes(b"\x80\2" + bytes(99))
    done = planned(wan)
    assert done.status == 0, done.err
    assert "model: a Python pickle (.pth), whose tensors only torch can list" in done.out


def test_a_dangling_link_of_a_download_cache(wan: Project) -> None:
    """It is told with where it leads, and the other examinations go on."""
    model = wan.root / "hub" / "models--Wan-AI--Wan2.1-T2V-14B"
    snapshot = model / "snapshots" / "0123abc"
    snapshot.parent.mkdir(parents=True)
    folder_of(wan).rename(snapshot)
    shards = write_shards(snapshot, T2V, 2)
    (model / "blobs").mkdir()
    for path in (*shards, snapshot / f"{VAE}.safetensors"):
        path.unlink()
        path.symlink_to(f"../../blobs/{hashlib.md5(path.name.encode()).hexdigest()}")
    wan.environment["HF_HUB_CACHE"] = str(wan.root / "hub")
    error = refused(wan, "0123abc lacks", "it is a link to ../../blobs/", "which is not there")
    assert f"{VAE}.safetensors (or .pth) (it is a link" in error
    found = doctored(wan)
    assert "is missing; it is a link to ../../blobs/" in "\n".join(wrongs(found))
    assert {"clips", "prompts", "disk", "host memory", "file system", "clock"} <= set(found)
