"""Weights of other implementations, both ways, and the proof that the numbers stay the same."""
