"""Codes of positions: the nearest of a table of vectors."""
