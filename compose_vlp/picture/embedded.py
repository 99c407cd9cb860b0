"""The graph of a blueprint for a page that is not ours: a notebook's."""

from __future__ import annotations

import base64

from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.pages import Markup, tag
from compose_vlp.picture.of_blueprint import diagram_of
from compose_vlp.picture.svg import svg


def embedded(checked: CheckedBlueprint) -> Markup:
    """Draw the graph as an image: within one, its styles and markers cannot meet those of the page around it."""
    drawing = svg(diagram_of(checked)).encode("utf-8")
    address = f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode('ascii')}"
    return tag("img", src=address, alt=f"the graph of {checked.name}", style="max-width:100%")
