"""The training's own arithmetic against the pipeline's, which the shipped checkpoint runs in."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")

from runner.backends.wan.sizes import TINY  # noqa: E402 - after the packages are known
from training import autoencoder, clips, transformer  # noqa: E402
from training.tokenizer import TOKENS  # noqa: E402


def test_velocity_is_the_pipelines() -> None:
    """One empty token with the weight of all stands for the 472 that the pipeline attends to."""
    from diffsynth.pipelines.wan_video import model_fn_wan_video

    torch.manual_seed(0)
    dit, text_encoder = transformer.new_models("cpu")
    torch.nn.init.normal_(dit.head.head.weight, std=0.05)
    lengths = torch.tensor([1, 7, TOKENS])
    ids = torch.zeros(3, TOKENS, dtype=torch.int64)
    for row, length in zip(ids, lengths.tolist(), strict=True):
        row[: length - 1] = torch.randint(3, TINY.text_encoder["vocab"], (length - 1,))
        row[length - 1] = 1
    latents, levels = torch.randn(3, 16, 3, 6, 8), torch.tensor([0.952, 0.5, 0.1])
    turn = transformer.rotations(dit, (3, 3, 4), "cpu")
    with torch.no_grad():
        found = transformer.velocity(
            dit, text_encoder, latents, transformer.time_features(levels * 1000), ids, lengths, turn
        )
        for i, length in enumerate(lengths.tolist()):
            padded = torch.zeros(1, transformer.CONTEXT, dtype=torch.int64)
            padded[:, :TOKENS] = ids[i]
            mask = torch.zeros(1, transformer.CONTEXT, dtype=torch.int64)
            mask[:, :length] = 1
            context = text_encoder.eval()(padded, mask)
            context[:, length:] = 0
            timestep = (levels[i : i + 1] * 1000).to(torch.bfloat16).float()
            wanted = model_fn_wan_video(
                dit, latents=latents[i : i + 1], timestep=timestep, context=context
            )
            assert torch.allclose(found[i], wanted[0], atol=2e-5), i


def test_latents_at_scale_give_the_same_pixels() -> None:
    """Mean 0 and spread 1 with the numbers that diffsynth has built in, and nothing else."""
    torch.manual_seed(0)
    vae = autoencoder.new_vae("cpu")
    clip = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    with torch.no_grad():
        encoded = vae.model.encode(clip, vae.scale)
        before = vae.model.decode(encoded, vae.scale)
        mean, log_variance = autoencoder.moments(vae, clip)
        assert torch.allclose(mean, encoded, atol=1e-5)
        assert log_variance.shape == mean.shape
        channels = mean.transpose(0, 1).flatten(1)
        spread = channels.std(1)
        autoencoder.LEAST_SPREAD = float(spread.min()) / 2
        autoencoder.bring_to_scale(vae, channels.mean(1), spread)
        latents = vae.model.encode(clip, vae.scale)
        after = vae.model.decode(latents, vae.scale)
    channels = latents.transpose(0, 1).flatten(1)
    assert torch.allclose(channels.mean(1), torch.zeros(16), atol=1e-3)
    assert torch.allclose(channels.std(1), torch.ones(16), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-4)


def test_crops_are_windows_of_clips() -> None:
    """Every pixel says where it is from: its row, its column, its frame and clip."""
    frames = torch.zeros(3, 3, 17, 80, 128, dtype=torch.uint8)
    frames[:, 0] = torch.arange(80).view(-1, 1)
    frames[:, 1] = torch.arange(128)
    frames[:, 2] = torch.arange(51).view(3, 17, 1, 1)
    found = clips.crops(frames, 200)
    assert found.shape == (200, 3, clips.CROP_FRAMES, clips.CROP, clips.CROP)
    row, column, frame = found.int().unbind(1)
    along = torch.arange(clips.CROP)
    assert (row == row[:, :1, :1, :1] + along.view(-1, 1)).all()
    assert (column == column[:, :1, :1, :1] + along).all()
    assert (frame == frame[:, :1, :1, :1] + torch.arange(clips.CROP_FRAMES).view(-1, 1, 1)).all()
    assert not (row[:, 0, 0, 0] % 2).any()
    assert not (column[:, 0, 0, 0] % 2).any()
    assert len(frame[:, 0, 0, 0].unique()) == 3 * (17 - clips.CROP_FRAMES + 1)


def test_most_crops_are_about_a_thing() -> None:
    frames = torch.full((1, 3, 17, 80, 128), 120, dtype=torch.uint8)
    frames[:, 0, :, 8:38, 80:110] = 240
    middle = clips.crops(frames, 400)[:, 0, :, clips.CROP // 2, clips.CROP // 2]
    seen = (middle == 240).flatten(1).any(1).float().mean()
    assert 0.5 < seen < 1


def test_near_things_is_what_is_coloured_and_a_margin() -> None:
    clip = torch.zeros(1, 3, 2, 40, 60)
    clip[:, 0, 1, 10:20, 30:40] = 0.9
    near = autoencoder.near_things(clip)
    assert near.shape == (1, 1, 2, 40, 60)
    assert not near[:, :, 0].any()
    wanted = torch.zeros(40, 60)
    wanted[6:24, 26:44] = 1
    assert torch.equal(near[0, 0, 1], wanted)
