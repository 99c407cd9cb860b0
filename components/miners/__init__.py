"""Choosing rows that are hard to tell from the right one."""
