"""The graph of a blueprint as a picture (SVG) and as a page that answers questions (HTML)."""
