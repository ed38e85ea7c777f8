"""Offline batch runner for video-generation sweeps on many GPUs."""

__version__ = "0.1.0"
