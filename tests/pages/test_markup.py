"""Markup is written as calls; text cannot become markup by mistake."""

from __future__ import annotations

from compose_vlp.pages import Markup, document, join, tag, theme_button


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "a < b & c", tag("b", '"')) == "<p>a &lt; b &amp; c<b>&quot;</b></p>"


def test_attributes_are_escaped_and_spelt_as_html_has_them() -> None:
    assert (
        tag("i", class_="a", data_x='"', hidden=True, open=False, id=None) == '<i class="a" data-x="&quot;" hidden></i>'
    )


def test_coordinates_are_rounded() -> None:
    assert tag("rect", x=1.0, y=2.04, width=3.46) == '<rect x="1" y="2" width="3.5"></rect>'


def test_empty_elements_are_not_closed() -> None:
    assert tag("img", src="x") == '<img src="x">'


def test_nothing_is_left_out_of_a_list() -> None:
    joined = join(["<", None, Markup("<br>")])
    assert joined == "&lt;<br>"
    assert isinstance(joined, Markup)


def test_document_is_one_file_with_its_own_style_and_script() -> None:
    text = document("A & B", tag("p", "hello"), theme_button(), style="p{color:red}", script="let a = 1 < 2;")
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert "<title>A &amp; B</title>" in text
    assert "p{color:red}" in text
    assert "let a = 1 < 2;" in text
    assert "src=" not in text
    assert "href=" not in text
