"""Hiding words and patches that are to be foretold."""
