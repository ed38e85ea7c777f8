"""A grid as jobs: expansion, fingerprints, what a plan changes, provenance."""
