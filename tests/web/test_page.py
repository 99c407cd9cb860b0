"""The page on which a model is tried: what it answers, and what it refuses, over real connections to this machine."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compose_vlp.cli.run import run as run_command
from compose_vlp.errors import UserError
from compose_vlp.run import Output
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.web import server as server_module
from compose_vlp.web.answers import Answers
from compose_vlp.web.server import MOST_AT_ONCE, MOST_BODY, Server
from tests.cli.support import SHORT
from tests.models import TINY, tiny

TEXTS = ["a red circle", "two blue stars", "a small square"]


def png(width: int = 30, height: int = 20) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    packed = BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


PICTURE = png()
PACKED = base64.b64encode(PICTURE).decode()


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(scope="module")
def asker() -> Asker:
    return tiny("tiny/blip")


@pytest.fixture(scope="module")
def server(asker: Asker) -> Iterator[Server]:
    with serving(Server(Answers(asker))) as running:
        yield running


def sent(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request whose headers are `Content_Type` and the like."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def asked(server: Server, **question: Any) -> tuple[int, dict[str, Any]]:
    status, body = sent(server, "POST", "/answer", json.dumps(question).encode(), Content_Type="application/json")
    answer: dict[str, Any] = json.loads(body)
    return status, answer


# --- answers --------------------------------------------------------------------------------------------------------


def test_a_caption_is_the_one_that_the_output_writes(server: Server, asker: Asker) -> None:
    assert asked(server, ask="write", output="caption", picture=PACKED) == (
        200,
        {"text": Output(asker, "caption")(PICTURE)},
    )


def test_texts_are_sorted_by_how_well_they_match(server: Server, asker: Asker) -> None:
    status, answer = asked(server, ask="fit", picture=PACKED, texts=TEXTS)
    own = {text: float(Output(asker, "match")(PICTURE, text)[1]) for text in TEXTS}
    assert (status, answer["by"]) == (200, "match")
    assert [row["text"] for row in answer["scores"]] == sorted(TEXTS, key=lambda text: -own[text])
    assert {row["text"]: row["score"] for row in answer["scores"]} == pytest.approx(own, rel=1e-4)


def test_a_map_is_a_picture(server: Server) -> None:
    status, answer = asked(server, ask="heat", picture=PACKED, text=TEXTS[0])
    assert status == 200
    drawn = Image.open(BytesIO(base64.b64decode(answer["picture"].partition("base64,")[2])))
    assert drawn.size == (30, 20)


def test_a_model_without_a_matching_head_compares_embeddings() -> None:
    answers = Answers(tiny("tiny/coca", small=()))
    answer = answers.answer({"ask": "fit", "picture": PACKED, "texts": TEXTS})
    assert answer["by"] == "similarity" and len(answer["scores"]) == 3 and not answers.explains
    with pytest.raises(UserError, match="nothing of this model can be explained"):
        answers.answer({"ask": "heat", "picture": PACKED, "text": "a"})


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_has_what_the_model_can_do_and_asks_nobody_else(server: Server) -> None:
    status, body = sent(server, "GET", "/")
    page = body.decode()
    assert status == 200 and re.findall(r'data-ask="(\w+)"', page) == ["write", "fit", "heat"]
    assert not re.search(r"""(?:src|href)=["'](?!#)|https?://|@import|url\(""", page)


def test_its_headers_let_a_browser_load_nothing_from_elsewhere(server: Server) -> None:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    connection.request("GET", "/")
    headers = connection.getresponse().headers
    connection.close()
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"ask": "delete"}, "ask is 'delete'"),
        ({"ask": "write", "output": "caption"}, "there is no picture"),
        ({"ask": "write", "output": "caption", "picture": ["a"]}, "there is no picture"),
        ({"ask": "write", "output": "caption", "picture": "/etc/passwd"}, "opens no files"),
        ({"ask": "write", "output": "caption", "picture": base64.b64encode(b"GIF89a...").decode()}, "the picture sent"),
        ({"ask": "write", "output": "match", "picture": PACKED}, "is no output that writes"),
        ({"ask": "fit", "picture": PACKED, "texts": []}, "texts is no list of texts"),
        ({"ask": "fit", "picture": PACKED, "texts": ["a"] * 65}, "a request may have 64"),
        ({"ask": "fit", "picture": PACKED, "texts": ["a" * 10_001]}, "a request may have 10,000"),
        ({"ask": "heat", "picture": PACKED, "text": " "}, "there is no text"),
    ],
)
def test_a_question_that_cannot_be_answered_is_explained(server: Server, question: dict[str, Any], says: str) -> None:
    status, answer = asked(server, **question)
    assert status == 400 and says in answer["error"]


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(server: Server) -> None:
    packed = BytesIO()
    Image.new("1", (6000, 5000)).save(packed, "PNG")
    status, answer = asked(server, ask="fit", picture=base64.b64encode(packed.getvalue()).decode(), texts=["a"])
    assert status == 400 and "6000 x 5000 pixels" in answer["error"]


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/etc/passwd", None, {}, 404),
        ("GET", "/../pyproject.toml", None, {}, 404),
        ("GET", "/", None, {"Host": "evil.example"}, 421),
        ("GET", "/", None, {"Host": "127.0.0.1.evil.example:80"}, 421),
        ("GET", "/", None, {"Host": "[::1"}, 421),
        ("GET", "/", None, {"Host": "8.8.8.8"}, 421),
        ("GET", "/", None, {"Host": "localhost:1"}, 200),
        ("POST", "/", b"{}", JSON, 404),
        ("POST", "/answer", b"{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/answer", b"{}", {**JSON, "Origin": "http://evil.example"}, 403),
        ("POST", "/answer", b"{}", {**JSON, "Origin": "null"}, 403),
        ("POST", "/answer", b"[]", JSON, 400),
        ("POST", "/answer", b"[" * 100_000, JSON, 400),
        ("POST", "/answer", b"\xff", JSON, 400),
        ("POST", "/answer", b"", {**JSON, "Content_Length": str(MOST_BODY + 1)}, 413),
        ("POST", "/answer", b"", {**JSON, "Content_Length": "9" * 5000}, 413),
        ("POST", "/answer", b"", {**JSON, "Content_Length": "-1"}, 411),
        ("PUT", "/answer", b"{}", JSON, 501),
        ("DELETE", "/", None, {}, 501),
    ],
)
def test_requests_of_other_kinds_are_refused(
    server: Server, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    assert sent(server, method, path, body, **headers)[0] == status


def test_a_fault_of_the_model_s_is_not_told_to_who_asks(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(asker)
    monkeypatch.setattr(answers, "answer", lambda request: 1 / 0)
    with serving(Server(answers)) as broken:
        status, answer = asked(broken, ask="write")
    assert status == 500 and "division" not in answer["error"]


def test_more_connections_than_the_limit_are_refused_and_later_ones_answered(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module.Handler, "timeout", 60)
    with serving(Server(Answers(asker))) as running:
        idle = [socket.create_connection(running.server_address[:2]) for _ in range(MOST_AT_ONCE)]
        for connection in idle:
            connection.sendall(b"GET / HTTP/1.0\r\n")  # and no end of the headers
        refused = socket.create_connection(running.server_address[:2], timeout=30)
        assert refused.makefile("rb").readline().startswith(b"HTTP/1.0 503")
        for connection in [*idle, refused]:
            connection.close()
        statuses = (_status(running) for _ in range(200))
        assert next((status for status in statuses if status == 200), None) == 200


def _status(server: Server) -> int | None:
    try:
        return sent(server, "GET", "/")[0]
    except OSError:
        return None


def test_a_port_in_use_is_a_mistake_and_loopback_the_default(asker: Asker, server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1" and not server.open_to_others
    with pytest.raises(UserError, match="cannot be served at") as refused:
        Server(Answers(asker), port=int(server.server_address[1]))
    assert "--port 0" in refused.value.problems[0].hints[0]


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "blip"
    assert run_command(["train", "tiny/blip", *TINY, *SHORT, "--no-track", "--out", str(folder)]) == 0
    return folder


def test_the_command_serves_a_run_until_it_is_stopped(
    blip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def once(self: Server, poll_interval: float = 0.5) -> None:
        client = threading.Thread(target=lambda: pages.append(sent(self, "GET", "/")), daemon=True)
        client.start()
        self.handle_request()
        client.join(30)

    pages: list[tuple[int, bytes]] = []
    monkeypatch.setattr(Server, "serve_forever", once)
    assert run_command(["serve", str(blip), "--port", "0", "--device", "cpu"]) == 0
    assert pages[0][0] == 200 and b"blip_tiny" in pages[0][1]
    assert re.search(r"http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)", capsys.readouterr().out)
    assert run_command(["serve", str(blip), "--host", "999.1.1.1", "--port", "0"]) == 2
