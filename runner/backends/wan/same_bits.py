"""`python -m runner.backends.wan.same_bits EXPERIMENT`: a name for what `runner.same_bits` does,
which knows experiments, as no backend does."""

from __future__ import annotations

import runpy

if __name__ == "__main__":
    runpy.run_module("runner.same_bits", run_name="__main__", alter_sys=False)
