"""Norms of towers: what fills the slot `norm`."""
