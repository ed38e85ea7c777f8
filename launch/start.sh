#!/bin/sh
# The original sweep on this machine. Arguments go to `sweep launch`, such as --sample 2.
set -eu

cd "$(dirname "$0")/.."
exec "${VENV:-.venv}/bin/sweep" launch experiments/wan_experiment.yaml "$@"
