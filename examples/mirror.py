"""A method of one's own, as small as one can be: the reference mirrored, its colours turned.

It needs nothing but an ffmpeg: the one named in `model.settings.ffmpeg`, that of imageio-ffmpeg
where the interpreter has it, or the command `ffmpeg`. See docs/your_own_method.md.
"""

from __future__ import annotations

import subprocess

ffmpeg = "ffmpeg"


def load(settings):
    """Called once, before anything else: here a model would be loaded."""
    global ffmpeg
    try:
        import imageio_ffmpeg

        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        pass
    ffmpeg = settings.get("ffmpeg", ffmpeg)
    print("ffmpeg is", ffmpeg)


def generate(job, path):
    """Called for every job: write the video to `path`, of exactly the size, length and rate that
    `job.parameters` says."""
    wanted = job.parameters
    turn = (47 * job.seed + len(job.prompt)) % 360 * wanted.get("strength", 1.0)
    steps = [
        f"fps={wanted['fps']}",
        f"scale={wanted['width']}:{wanted['height']}",
        "hflip",
        f"hue=h={turn}",
    ]
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", f"file:{job.reference}"]
    command += ["-vf", ",".join(steps), "-frames:v", str(wanted["num_frames"])]
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-threads", "1"]
    command += ["-progress", "pipe:1", f"file:{path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            for line in running.stdout:
                key, _, value = line.partition("=")
                if key == "frame":
                    job.step(int(value), wanted["num_frames"])
        except BaseException:
            # The job is to end: so is what it has started.
            running.kill()
            raise
    if running.returncode:
        raise RuntimeError(f"ffmpeg ended with status {running.returncode}; see the log")
