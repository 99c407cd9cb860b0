"""Panels: several series over the values of an axis, in files that need nothing else."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from compose_vlp.report.drawing import for_file
from compose_vlp.report.panels import Panel, panels_plot, places_of


def test_numbers_stand_by_their_size_and_words_after_each_other() -> None:
    assert places_of(["2", "4", "16"]) == {"2": 2.0, "4": 4.0, "16": 16.0}
    assert places_of(["8", "{use: gated}"]) == {"8": 0.0, "{use: gated}": 1.0}


def test_a_drawing_is_the_same_file_each_time_and_needs_no_other() -> None:
    seconds = {"ours": [("2", 0.5), ("4", 0.75)], "<other> & $1": [("2", 1.0), ("4", 2.0)]}
    panels = [
        Panel("seconds", "rows", seconds, "{:g} s".format),
        Panel("alone", "kind", {"a third": [("{use: gated}", 1.0), ("{use: plain}", 3.0)]}, "{:g}".format),
        Panel("rows a second", "rows", {"ours": [("2", 4.0), ("4", 5.0)]}, "{:g}".format),
    ]
    svg = for_file(panels_plot("a step", panels, columns=2))
    assert svg == for_file(panels_plot("a step", panels, columns=2))
    texts = ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    for words in ("a step", "seconds", "rows", "ours", "<other> & $1", "a third", "{use: gated}", "0 s"):
        assert words in texts
    assert texts.count("ours") == 1, "a legend stands where a series is new"
    assert re.findall(r'(?:href|src)="([^"#][^"]*)"|url\((?!#)', svg) == []


def test_points_that_lie_close_are_drawn_whole() -> None:
    """The highest of them stands below the panel's upper edge by more than half of its mark."""
    svg = panels_plot("a step", [Panel("p", "processes", {"ours": [("1", 10.3), ("2", 10.4)]}, "{:g}".format)], 1)
    namespace = "{http://www.w3.org/2000/svg}"
    edges = [float(rect.get("y", 0)) for clip in ET.fromstring(svg).iter(f"{namespace}clipPath") for rect in clip]
    marks = [
        float(mark.get("y", 0))
        for group in ET.fromstring(svg).iter(f"{namespace}g")
        if group.get("clip-path")
        for mark in group.iter(f"{namespace}use")
    ]
    assert len(marks) == 2
    assert min(marks) - max(edges) > 2.5


def test_a_panel_of_nothing_but_zeros_is_drawn() -> None:
    assert "nothing" in panels_plot("p", [Panel("nothing", "rows", {"ours": [("1", 0.0)]}, "{:g}".format)], 1)
