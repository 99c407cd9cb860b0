"""Sweeps: one question asked of a blueprint with its parts exchanged, trained fairly, one process a run."""
