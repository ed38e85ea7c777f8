"""Trains the tiny checkpoint that the project ships: `python -m training.train --help`."""
