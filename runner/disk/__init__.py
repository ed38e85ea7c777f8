"""The files of a run folder: paths, atomic writing, manifest, sidecars, attempts, logs."""
