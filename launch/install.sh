#!/bin/sh
# Make a virtual environment with everything in it. Called by `make setup`; needs no root.
#   PYTHON  the Python to make it from     VENV  where     TORCH  a requirement, or "keep"
set -eu

if [ "$TORCH" = keep ]; then
    # The new environment sees that Python's packages, and may not replace its torch.
    TORCH=$("$PYTHON" -c 'import torch; print("torch==" + torch.__version__.split("+")[0])' \
        2>/dev/null) || { echo "TORCH=keep: $PYTHON has no torch" >&2; exit 2; }
    "$PYTHON" -m venv --system-site-packages "$VENV"
    # Made from an environment's Python, it sees the Python below that one: add a path to it.
    packages='import sysconfig; print(sysconfig.get_path("purelib"))'
    "$PYTHON" -c "$packages" >"$("$VENV/bin/python" -c "$packages")/kept_torch.pth"
else
    "$PYTHON" -m venv "$VENV"
fi
echo "Installing into $VENV ($TORCH, diffsynth and the rest); this takes some minutes." >&2
"$VENV/bin/python" -m pip install --quiet "$TORCH" --editable ".[wan,dev]"
