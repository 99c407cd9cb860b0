"""Measurements of speed and studies, each run by `python -m benchmarks.NAME`.

A package of its own, since a library that tests install (fairscale) brings one of the same name.
"""
