#!/bin/sh
# Make a virtual environment with everything in it. Called by `make setup`; needs no root.
#   PYTHON  the Python to make it from     VENV  where     TORCH  a requirement, or "keep"
set -eu

if [ "$TORCH" = keep ]; then
    # The new environment sees that Python's packages, and may not replace its torch.
    TORCH=$("$PYTHON" -c 'import torch; print("torch==" + torch.__version__.split("+")[0])')
    "$PYTHON" -m venv --system-site-packages "$VENV"
else
    "$PYTHON" -m venv "$VENV"
fi
"$VENV/bin/python" -m pip install --quiet "$TORCH" --editable ".[wan,dev]"
