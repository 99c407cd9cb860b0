"""The one attention function, `attend`, and its backends."""
