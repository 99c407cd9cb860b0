"""Pages that people look at: self-contained HTML and SVG, in light and dark, from plain functions."""

from compose_vlp.pages.document import document, theme_button
from compose_vlp.pages.markup import Markup, join, tag

__all__ = ["Markup", "document", "join", "tag", "theme_button"]
