"""Drawn clips whose content is known: the data that the tiny model learns and is judged by.

A scene holds simple things or a figure in a few colours before a simple background, moving in
the ways of the four categories. It is drawn from a seed, described by a caption of a small
vocabulary in English or Chinese, and rendered at any size and rate.
"""
