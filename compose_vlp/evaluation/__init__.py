"""Measuring trained models: one task a file, each asking a blueprint's outputs for what it needs."""
