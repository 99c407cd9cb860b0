"""Pages that people look at: self-contained HTML and SVG, in light and dark, from plain functions."""

from compose_vlp.pages.chart import Series, curves
from compose_vlp.pages.document import document, shared, theme_button
from compose_vlp.pages.markup import Markup, join, table, tag

__all__ = ["Markup", "Series", "curves", "document", "join", "shared", "table", "tag", "theme_button"]
