"""A small HTTP server on loopback for tests: a function answers, and what was asked is kept."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """An answer; a length that is not the body's makes the connection break off."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    length: int | None = None


@dataclass
class SmallServer:
    """Where it listens, and what it was asked: method, path and headers of each request."""

    url: str
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def answering(
    answer: Callable[[str], Answer | str], certificate: Path | None = None
) -> Iterator[SmallServer]:
    """A server while the block lasts.

    Parameters
    ----------
    answer
        What it answers at a path.
    certificate
        Certificate and key for TLS; absent: plain HTTP.
    """
    listening: SmallServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listening.asked.append((self.command, self.path, dict(self.headers)))
            told = answer(self.path)
            told = Answer(told.encode()) if isinstance(told, str) else told
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body) if told.length is None else told.length))
            self.end_headers()
            self.wfile.write(told.body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Tell nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            """Clients that leave early are what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    listening = SmallServer(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield listening
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
