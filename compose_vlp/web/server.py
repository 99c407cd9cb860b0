"""The server of the page: Python's own, for few people on one machine. What it is asked is taken for a stranger's."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any, Final
from urllib.parse import urlsplit

from typing_extensions import override

from compose_vlp.errors import UserError
from compose_vlp.web.answers import Answers
from compose_vlp.web.page import page

log = logging.getLogger(__name__)

MOST_BODY: Final = 20_000_000
"""Bytes of a question: a picture of some 15 MB in base64."""
MOST_AT_ONCE: Final = 8
"""Connections that are answered or wait for the model; more are refused."""
PATIENCE: Final = 20.0
"""Seconds in which a client has to send on."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Connection": "close",
}


class _Refused(Exception):
    """A request that is not answered, with the status that says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves the page of a model at an address; `serve_forever` until `shutdown`.

    Raises:
        UserError: the model can do nothing of a page, or the address cannot be had.
    """

    daemon_threads = True

    def __init__(self, answers: Answers, host: str = "127.0.0.1", port: int = 0) -> None:
        self.answers, self.page = answers, page(answers).encode("utf-8")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots = BoundedSemaphore(MOST_AT_ONCE)
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise UserError(
                f"{host}, port {port}, cannot be served at: {error.strerror or error}",
                hints=("`--port 0` takes one that is free",),
            ) from error

    @property
    def url(self) -> str:
        """Give the page's address."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"

    @property
    def open_to_others(self) -> bool:
        """Tell whether other machines reach it."""
        return not ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def knows(self, host: str) -> bool:
        """Tell whether a host is this machine; a name that others gave its address is not (DNS rebinding)."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or (self.open_to_others and name == socket.gethostname().lower()):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or self.open_to_others
        except ValueError:
            return False

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 2\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave it: who asks may go at any moment, and no traceback of it belongs on the terminal."""


class Handler(BaseHTTPRequestHandler):
    """One request: the page, or a question of it."""

    server: Server
    timeout = PATIENCE
    server_version, sys_version = "compose-vlp", ""

    def do_GET(self) -> None:
        self._guarded(self._page)

    def do_POST(self) -> None:
        self._guarded(self._answer)

    def _guarded(self, respond: Any) -> None:
        try:
            if not self.server.knows(self.headers.get("Host", "")):
                raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server is not known by that name")
            respond()
        except _Refused as refused:
            self._send_json(refused.status, {"error": str(refused)})

    def _page(self) -> None:
        if self.path != "/":
            raise _Refused(HTTPStatus.NOT_FOUND, "there is one page, at /")
        self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def _answer(self) -> None:
        if self.path != "/answer":
            raise _Refused(HTTPStatus.NOT_FOUND, "questions go to /answer")
        request = self._question()
        try:
            answer = self.server.answers.answer(request)
        except UserError as error:
            hints = "; ".join(hint for problem in error.problems for hint in problem.hints)
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{error}{f' ({hints})' if hints else ''}") from error
        except Exception as error:  # whoever asks is a stranger: what failed is not theirs to see, paths least of all
            log.exception("a question failed")
            raise _Refused(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the model failed on this; the terminal of its server says how"
            ) from error
        self._send_json(HTTPStatus.OK, answer)

    def _question(self) -> dict[str, Any]:
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            raise _Refused(HTTPStatus.FORBIDDEN, "questions of other pages are not answered")
        if self.headers.get_content_type() != "application/json":  # a form of another page cannot send it unasked
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a question is application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a question says how long it is")
        if len(length) > 12 or int(length) > MOST_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a question may have {MOST_BODY:,} bytes")
        try:
            request = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "the question is no JSON") from error
        if not isinstance(request, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the question is no JSON object")
        return request

    def _send_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode("ascii"), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
