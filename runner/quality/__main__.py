"""`python -m runner.quality RUN ...` measures the finished videos of runs.

Answers a table, or with --json one value. What tells colours and shapes apart is tried on real
clips first, and how often it is right is said with the answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from ..job import JobState
from ..text.errors import UserError
from ..text.terminal import print_json, print_lines, say
from ..text.utf8_mode import ensure_utf8


def main(words: Sequence[str] | None = None) -> int:
    """Measure the runs that `words` name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runner.quality", description=__doc__)
    parser.add_argument("run", nargs="+", help="run folders, experiment files or sweeps' names")
    parser.add_argument("--no-vae", action="store_true", help="leave out the VAE, load no model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    try:
        answer = [_measured(text, vae=not arguments.no_vae) for text in arguments.run]
        validation = _validation()
    except UserError as error:
        say(f"quality: {error}")
        return 2
    if arguments.json:
        print_json({"validation": validation, "runs": answer})
    else:
        _print(validation, answer)
    return 0


@cache
def _outlines() -> Any:
    try:
        from .looks import fit_outlines
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing; run `make setup`, or pip install 'sweep-runner[eval]'"
        ) from error
    return fit_outlines()


def _validation() -> dict[str, Any]:
    from .looks import validate

    return validate(_outlines())


def _measured(text: str, *, vae: bool) -> dict[str, Any]:
    from tqdm import tqdm

    from ..disk.upstream import Unmade, Upstream
    from ..experiment.loading import load_experiment
    from ..runs.runs import find_run, open_queue

    outlines = _outlines()
    from .measure import fidelity, measure, reconstructed

    folder = find_run(text)
    queue = open_queue(folder)
    jobs = [row.job for row in queue.rows() if row.state is JobState.DONE]
    queue.close()
    if not jobs:
        raise UserError(
            f"{folder.name}: no finished video; `sweep resume {folder.name}` makes them"
        )
    experiment = load_experiment(folder.experiment)
    above = Upstream.of(folder)
    try:
        jobs = [replace(job, series=above.resolved(job.series)) for job in jobs]
    except Unmade as error:
        raise UserError(f"{folder.name}: {error}, of which a video was made") from None
    with tqdm(total=len(jobs), unit="video", disable=None) as bar:
        rows = measure(folder, experiment.data, jobs, outlines, bar.update)
    psnr = None
    if vae:
        given_back = (
            one
            for method in experiment.every_method
            if (own := [job for job in jobs if job.method == method.name])
            for one in reconstructed(method.planner().engine(), experiment.data, own)
        )
        psnr = fidelity(experiment.data, given_back)
    return {"sweep": folder.name, "vae_psnr": psnr, "measured": [row.to_json() for row in rows]}


def _print(validation: dict[str, Any], answer: list[dict[str, Any]]) -> None:
    print_lines(
        f"on {validation['clips']} real clips: colour right {_percent(validation['colour'])}, "
        f"shape right {_percent(validation['shape'])}, "
        f"of dented ones {_percent(validation['dented_shape'])}"
    )
    for run in answer:
        psnr = run["vae_psnr"]
        print_lines(f"{run['sweep']}:" + (f" VAE {psnr:.1f} dB" if psnr is not None else ""))
        head = ("strength", "videos", "colour", "shape", "own motion", "other's", "seeds apart")
        print_lines("  " + "".join(f"{name:>12}" for name in head))
        for row in run["measured"]:
            cells = [f"{row['strength']:g}", str(row["videos"])]
            cells += [_percent(row["colour"]), _percent(row["shape"])]
            cells += [_number(row[name], "5.3f") for name in ("own", "other")]
            cells.append(_number(row["seeds"], "5.1f"))
            print_lines("  " + "".join(f"{cell:>12}" for cell in cells))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    ensure_utf8()
    sys.exit(main())
