"""`compose-vlp serve`: a page on this machine, to try a trained model on pictures of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from compose_vlp.cli.console import out
from compose_vlp.cli.options import Device, Plugins, Run, load_run, print_note

EXAMPLES = (
    ("a page to drop pictures into", "compose-vlp serve runs/blip_tiny-1"),
    ("at a port that is free", "compose-vlp serve runs/blip_tiny-1 --port 0"),
)


def command(
    run: Run,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to serve at; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes one that is free.")] = 8000,
    device: Device = "auto",
    plugins: Plugins = None,
) -> None:
    """Serve a page on which a trained model is tried on pictures.

    What the model can do stands on it: texts of a picture, which text fits, where in the picture it is seen. Nothing is
    written, and nothing is loaded from elsewhere. Ends with Ctrl-C.
    """
    from compose_vlp.web.answers import Answers
    from compose_vlp.web.server import Server

    loaded = load_run(run, plugins, device)
    with Server(Answers(loaded.asker), host, port) as server:
        if server.open_to_others:
            print_note("other machines reach this page, and whoever does may ask the model: it knows no passwords")
        out().print(f"{server.url} (Ctrl-C ends it)", soft_wrap=True)
        server.serve_forever()
