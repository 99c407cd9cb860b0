"""Pictures and words as positions, before any layer."""
