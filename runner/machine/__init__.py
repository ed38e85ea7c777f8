"""This host: its GPUs and processes, what `machine.yaml` says of it, waiting for its locks."""
