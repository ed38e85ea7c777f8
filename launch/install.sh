#!/bin/sh
# Make a virtual environment with everything in it. Called by `make setup`; needs no root.
#   PYTHON  the Python to make it from     VENV  where     TORCH  a requirement, or "keep"
set -eu

# What no Python package brings: tmux for the workers, Chromium to look at the report in the tests,
# a compiler for `model.compile`. Nothing needs them: sweeps run without tmux (--on local), and
# tests of what is missing are skipped.
missing=
command -v tmux >/dev/null || missing="$missing tmux"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    command -v google-chrome >/dev/null || missing="$missing chromium"
command -v g++ >/dev/null || missing="$missing g++"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing$missing." >&2
        # shellcheck disable=SC2086 - one word for each package
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq $missing; } >/dev/null ||
            echo "They could not be installed; going on without." >&2
    else
        echo "Not on this machine:$missing (Debian, Ubuntu: apt-get install$missing);" \
            "going on without." >&2
    fi
fi

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
