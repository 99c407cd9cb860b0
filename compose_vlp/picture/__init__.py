"""The graph of a blueprint as a picture (SVG) and as a page that answers questions (HTML)."""

from compose_vlp.picture.diagram import Diagram
from compose_vlp.picture.embedded import embedded
from compose_vlp.picture.of_blueprint import Numbers, diagram_of
from compose_vlp.picture.page import page
from compose_vlp.picture.svg import svg

__all__ = ["Diagram", "Numbers", "diagram_of", "embedded", "page", "svg"]
