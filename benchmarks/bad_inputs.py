"""How `sweep` takes bad input: tracebacks and wrong exit statuses in thousands of forms.

python benchmarks/bad_inputs.py                # 2,000 in this process, 100 as processes
python benchmarks/bad_inputs.py --seed 7 --forms 200 --processes 0
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bad_forms import Ended, forms, make_base, run_form
from measuring import table, write_section

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Bad input"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forms", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=100, help="of them as processes as well")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    ends: list[Ended] = []
    with tempfile.TemporaryDirectory() as name:
        base, root = Path(name) / "base", Path(name) / "project 项目"
        make_base(base)
        for place, form in enumerate(forms(arguments.seed, arguments.forms)):
            ends.append(run_form(form, base, root))
            if place < arguments.processes:
                ends.append(run_form(form, base, root, as_process=True))
            for ended in ends[-2:]:
                if ended.fault is not None and ended.form is form:
                    print(f"form {place}: {form.family}: {form.what}\n{ended.fault}\n", flush=True)
    rows = [_row(family, ends) for family in dict.fromkeys(e.form.family for e in ends)]
    rows.append(_row(None, ends))
    head = ["form", "tried", "status 0", "1", "2", "tracebacks", "wrong status or too many lines"]
    body = (
        f"Seed {arguments.seed}: {arguments.forms:,} forms run in one process, the first "
        f"{min(arguments.processes, arguments.forms)} of them as processes, too; each in a fresh "
        "project. What PyYAML or `json` cannot parse, or a key cannot hold, must be refused with "
        f"status 2 in a line or two (one per clip); nothing may end in a traceback.\n\n"
        f"{table(head, rows)}"
    )
    write_section(arguments.out, TITLE, body)
    return 1 if any(ended.fault for ended in ends) else 0


def _row(family: str | None, ends: list[Ended]) -> list[str]:
    own = [ended for ended in ends if family in (None, ended.form.family)]
    statuses = Counter(ended.status for ended in own)
    crashes = sum((ended.fault or "").startswith("traceback") for ended in own)
    faults = sum(ended.fault is not None for ended in own) - crashes
    numbers = [len(own), statuses[0], statuses[1], statuses[2], crashes, faults]
    return [family or "all", *(f"{number:,}" for number in numbers)]


if __name__ == "__main__":
    sys.exit(main())
