#!/bin/sh
# The main job on the sample clips: plan, launch, wait, verify. Called by `make demo`.
set -eu

sweep="${VENV:-.venv}/bin/sweep"
launcher=tmux
if ! command -v tmux >/dev/null; then
    echo "tmux is not installed (Debian, Ubuntu: apt-get install tmux); going on with" \
        "detached processes (--on local)." >&2
    launcher=local
fi
"$sweep" launch experiments/quickstart.yaml --on "$launcher" --wait
"$sweep" progress quickstart
"$sweep" verify quickstart
echo "The videos are in results/quickstart/<category>/<video>/."
