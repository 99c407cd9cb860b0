"""A notebook as one program, which does what a kernel does that runs all its cells."""

from __future__ import annotations

import ast
from pathlib import Path

from docs.gen_notebooks import Cell, cells

SHOW = """\
def show(value):
    if value is not None:
        print(value if not hasattr(value, "_repr_html_") else len(value._repr_html_()))
"""


def program(notebook: Path) -> str:
    """Write the program: a cell after the other, and what stands last in a cell shown as a notebook shows it."""
    return "\n".join([SHOW, *(_code(cell) for cell in cells(notebook) if cell.kind != "markdown")])


def _code(cell: Cell) -> str:
    if cell.kind == "file":
        return f"import pathlib\npathlib.Path({cell.file!r}).write_text({cell.body!r}, encoding='utf-8')"
    if cell.kind == "bash":
        return f"import subprocess\nsubprocess.run(['bash', '-euc', {cell.body!r}], check=True)"
    tree = ast.parse(cell.body)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.Expr(ast.Call(ast.Name("show"), [last.value], []))
    return ast.unparse(tree)
