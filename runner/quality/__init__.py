"""Measures of videos: do they show what their prompts say and move as their references do?

Needs OpenCV (`pip install 'sweep-runner[eval]'`).
"""
