"""Folders that other libraries load by themselves: configuration, weights under their names, and what reads pictures
and texts."""
