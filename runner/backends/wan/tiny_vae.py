"""The VAE of the tiny checkpoint, under a name that diffsynth's model table can point at."""

from __future__ import annotations

from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE

from .sizes import TINY


class TinyVAE(WanVideoVAE):  # type: ignore[misc]
    """Wan's VAE with the same compression, 8x8 in space and 4 in time, and few channels."""

    def __init__(self) -> None:
        super().__init__()
        # WanVideoVAE takes no width for its network.
        self.model = VideoVAE_(**TINY.vae).eval().requires_grad_(False)
