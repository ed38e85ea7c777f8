"""Leave it alone for a night: kills, a full disk and power cuts, and what is left afterwards.

    python benchmarks/chaos.py kills                     # 1,000 kill -9 on the fake backend
    python benchmarks/chaos.py kills --mixed             # STOP, HUP, QUIT and killed ffmpegs, too
    python benchmarks/chaos.py kills --backend wan       # 100 on the tiny Wan checkpoint
    python benchmarks/chaos.py disk                      # a few MB that fill up in the middle
    python benchmarks/chaos.py powercut                  # files cut short, zeroed and lost

Every random choice comes from `--seed`. Ends with status 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import chaos_disk
import chaos_kills
import chaos_powercut
from chaos_sweep import ROOT, Broken
from measuring import write_section

KILLS = {
    "fake": {"kills": 1000, "jobs": 5000, "slots": 8, "seconds_between": 0.5, "minutes": 25},
    "wan": {"kills": 100, "jobs": 400, "slots": 2, "seconds_between": 4.0, "minutes": 20},
}


def kills(arguments: argparse.Namespace, folder: Path, broken: Broken) -> tuple[str, str]:
    given = {key: getattr(arguments, key) for key in KILLS["fake"]}
    values = {**KILLS[arguments.backend], **{k: v for k, v in given.items() if v is not None}}
    plan = chaos_kills.KillPlan(
        backend=arguments.backend, seed=arguments.seed, is_mixed=arguments.mixed, **values
    )
    mixed = "SIGKILL, SIGHUP, SIGQUIT or SIGSTOP (SIGCONT up to 20 s later)"
    result = chaos_kills.attack(folder, plan, broken)
    body = (
        f"Seed {plan.seed}, {plan.slots} slots; each is a {mixed if plan.is_mixed else 'SIGKILL'} "
        f"at a random time, on average {plan.seconds_between:g} s apart, of a process chosen by "
        "kind; `sweep resume` "
        "(in tmux or detached, by chance) starts again what is gone. Promises: every job done "
        "in the end, the manifest as planned, every video counted as done decodes and has its "
        "sidecar's sha256, none that was committed was made again, no job was made by two live "
        "processes at once (a lock per job, held by the worker around its generation), nothing is "
        "left of what was in the making, no "
        f"command or log shows a traceback.\n\n{result}"
    )
    return f"{'Trouble' if plan.is_mixed else 'Kills'} at random times ({plan.backend})", body


def powercut(arguments: argparse.Namespace, folder: Path, broken: Broken) -> tuple[str, str]:
    jobs, rounds, slots = arguments.jobs or 120, arguments.rounds, arguments.slots or 4
    result = chaos_powercut.attack(
        folder,
        rounds=rounds,
        jobs=jobs,
        slots=slots,
        lost_plans=arguments.lost_plans,
        seed=arguments.seed,
        broken=broken,
    )
    body = (
        f"Seed {arguments.seed}; {rounds} times everything was killed at a random moment, and "
        "files were cut short, emptied, zeroed in part or lost: 40 % of the videos done or their "
        "sidecars, half of the time with their former file time, and by chance the queue, its "
        "log, attempts, logs and files in the making. Promises: `sweep verify` names exactly the "
        "videos that were damaged, `sweep resume` makes them again and the rest not, and in the "
        "end all are good; a damaged manifest or experiment is said in a line or two, and `sweep "
        f"plan FILE` restores it.\n\n{result}"
    )
    return "Power cuts", body


def disk(arguments: argparse.Namespace, folder: Path, broken: Broken) -> tuple[str, str]:
    size, fills = arguments.size_mib, arguments.fills
    jobs, slots = arguments.jobs or 450, arguments.slots or 4
    result = chaos_disk.attack(
        folder,
        size_mib=size,
        jobs=jobs,
        slots=slots,
        fills=fills,
        seed=arguments.seed,
        broken=broken,
    )
    body = (
        f"Seed {arguments.seed}; the run folder is a tmpfs of {size} MiB, which {jobs} jobs of "
        f"{slots} slots fill. Then it is made {16 * size} MiB large, and {fills} times somebody "
        "else takes all that is left of it for up to 3 s at a random moment. Promises: what is "
        "done when the disk is full is good; workers wait and say for what, no job fails of it; "
        "the same `sweep launch --wait` ends by itself with everything done; no half file is left; "
        f"every video is good.\n\n{result}"
    )
    return "A full disk", body


PARTS = {"kills": kills, "disk": disk, "powercut": powercut}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--slots", type=int, help="workers at once")
    parser.add_argument("--minutes", type=float, help="give up after so long")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    only_kills = parser.add_argument_group("kills")
    only_kills.add_argument("--backend", choices=KILLS, default="fake")
    only_kills.add_argument("--kills", type=int)
    only_kills.add_argument("--mixed", action="store_true", help="other signals, and of ffmpegs")
    only_kills.add_argument("--seconds-between", type=float)
    only_disk = parser.add_argument_group("disk")
    only_disk.add_argument("--size-mib", type=int, default=6)
    only_disk.add_argument("--fills", type=int, default=10)
    only_powercut = parser.add_argument_group("powercut")
    only_powercut.add_argument("--rounds", type=int, default=20)
    only_powercut.add_argument("--lost-plans", type=int, help="default: every way")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    broken = Broken()
    with tempfile.TemporaryDirectory(prefix="sweep-chaos-", ignore_cleanup_errors=True) as name:
        if arguments.part == "disk" and not chaos_disk.may_mount(Path(name) / "disk"):
            chaos_disk.enter_namespace()
            print("skipped: no file system can be mounted here", file=sys.stderr)
            return 0
        title, body = PARTS[arguments.part](arguments, Path(name), broken)
    findings = "".join(f"\n- BROKEN: {finding}" for finding in broken.findings)
    write_section(arguments.out, title, f"{body}\n{findings}" if findings else body)
    return 1 if broken.findings else 0


if __name__ == "__main__":
    sys.exit(main())
