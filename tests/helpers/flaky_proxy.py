"""A proxy in front of the S3 server that answers 503 or loses answers, as its script prescribes."""

import contextlib
import http.client
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FlakyProxy:
    """Passes requests on to a server on loopback.

    Attributes:
        script: what happens to the next request: `pass`, `refuse` (503, not carried out) or
            `lose answer` (carried out, and the connection closed).
        refused, lost: how many.
    """

    def __init__(self, port: int) -> None:
        self.script: Iterator[str] = itertools.repeat("pass")
        self.refused = self.lost = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fate = proxy._next()
                if fate == "refuse":
                    self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                try:
                    upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    response = upstream.getresponse()
                    data = response.read()
                    upstream.close()
                except (OSError, http.client.HTTPException):  # the server is down
                    fate = "lose answer"
                if fate == "lose answer":
                    self.close_connection = True
                    return
                headers = dict(response.getheaders())
                self._answer(response.status, headers, data)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

            def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response_only(status)
                length = str(len(data))
                if self.command == "HEAD":
                    length = headers.get("Content-Length", "0")
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _next(self) -> str:
        with self._lock:
            fate = next(self.script)
            self.refused += fate == "refuse"
            self.lost += fate == "lose answer"
        return fate

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def running(port: int) -> Iterator[FlakyProxy]:
    proxy = FlakyProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
