"""`python -m runner.backends.wan FOLDER` prints a checkpoint's identity, for `model.identity`."""

from __future__ import annotations

import sys
from pathlib import Path

from ...text.errors import UserError
from ...text.utf8_mode import ensure_utf8
from .checkpoint import Checkpoint
from .judgement import judge, require


def main(arguments: list[str]) -> int:
    """Print the identity of one folder; return the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m runner.backends.wan FOLDER\n")
        return 2
    checkpoint = Checkpoint(Path(arguments[0]))
    try:
        require(judge(checkpoint), checkpoint.folder, "give a whole checkpoint folder")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{checkpoint.digest()}\n")
    return 0


if __name__ == "__main__":
    ensure_utf8()
    raise SystemExit(main(sys.argv[1:]))
