"""A run folder and its queue in line: found, opened, repaired, verified, linked, adopted."""
