"""The embedded world of coloured shapes: what is in a picture, how it is painted, and what can be said of it."""
