"""An example for an environment of its own: motion transfer with diffsynth 1.x and Wan 2.1.

diffsynth 1.x cannot be installed beside the diffsynth 2.x of the built-in backend, so it has an
environment of its own, whose Python is `model.interpreter`:

    python3.10 -m venv ~/envs/diffsynth1
    ~/envs/diffsynth1/bin/pip install diffsynth==1.1.7

    model:
      file: examples/diffsynth_1x.py
      interpreter: ~/envs/diffsynth1/bin/python
      files: {weights: models/Wan2.1-T2V-14B}
      settings: {persistent_parameters: null}
    generation:
      num_inference_steps: 50
      cfg_scale: 5.0
      denoising_strength: 0.8
      negative_prompt: "..."

1.1.7 names the transformers release that it works with, and does not import with a much newer one;
1.1.8 and 1.1.9 name none. This was run through 1.1.7's own pipeline on a processor, with small
models of random numbers in the place of the weights; with the real ones it needs a GPU, and was
not run.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffsynth import ModelManager, VideoData, WanVideoPipeline, save_video

pipe = None
reference = None


def load(settings):
    """Once: the models. `settings` is model.settings, with model.files as absolute paths."""
    global pipe
    weights = Path(settings["weights"])
    models = ModelManager(device="cpu")
    models.load_models(
        [
            [str(path) for path in sorted(weights.glob("diffusion_pytorch_model*.safetensors"))],
            str(weights / "models_t5_umt5-xxl-enc-bf16.pth"),
            str(weights / "Wan2.1_VAE.pth"),
        ],
        torch_dtype=torch.bfloat16,
    )
    pipe = WanVideoPipeline.from_model_manager(
        models, torch_dtype=torch.bfloat16, device=settings["device"]
    )
    pipe.enable_vram_management(num_persistent_param_in_dit=settings.get("persistent_parameters"))


def prepare(group):
    """Once per reference clip: its frames, at the size that is asked for. The clips are taken to
    have the experiment's frame rate."""
    global reference
    wanted = group.parameters
    clip = VideoData(group.reference, height=wanted["height"], width=wanted["width"])
    if len(clip) < wanted["num_frames"]:
        raise group.BadInput(f"{len(clip)} frames, {wanted['num_frames']} are needed")
    reference = [clip[number] for number in range(wanted["num_frames"])]


def generate(job, path):
    """Once per job. The pipeline goes through its steps by `progress_bar_cmd`, so `job.steps`
    in its place tells the sweep of each, and ends the job where a stop is asked for."""
    wanted = job.parameters
    frames = pipe(
        prompt=job.prompt,
        negative_prompt=wanted.get("negative_prompt", ""),
        input_video=reference,
        denoising_strength=wanted["denoising_strength"],
        seed=job.seed,
        height=wanted["height"],
        width=wanted["width"],
        num_frames=wanted["num_frames"],
        num_inference_steps=wanted["num_inference_steps"],
        cfg_scale=wanted["cfg_scale"],
        tiled=True,
        progress_bar_cmd=job.steps,
    )
    save_video(frames, path, fps=wanted["fps"], quality=5)
