"""`toscore watch`: serve the live page of a run over HTTP, by default to this machine only.

A malicious site can resolve its own host name to the address of this machine, so that its scripts can read
the responses of this server (DNS rebinding). Therefore the server answers only requests whose `Host` is a
name of this machine, a name that the user allows, or an IP address, which cannot be a host name of another
site.
"""

import asyncio
import contextlib
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from orchestrator.dashboard.snapshot import Watcher
from orchestrator.report.page import TEMPLATES
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from workers.storage.objects import StoreUnreachable

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "toscore",
}

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

ROUTES: Mapping[str, tuple[str, Callable[[Watcher], bytes]]] = {
    "/": ("text/html", lambda watcher: watcher.page("watch.html")),
    "/inside.html": ("text/html", lambda watcher: watcher.page("watch_fragment.html")),
    "/state.json": ("application/json", lambda w: json.dumps(w.snapshot().to_json()).encode()),
    "/watch.js": ("text/javascript", lambda watcher: (TEMPLATES / "watch.js").read_bytes()),
}


def is_allowed(host: str, bound: str, names: Collection[str]) -> bool:
    """Whether to answer a request with this `Host` header.

    Args:
        host: the header, with or without a port.
        bound: the address that the server is bound to; on a loopback address only loopback names and `names`
            are allowed.
        names: further host names that the user allows.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    known = LOOPBACK | {allowed.lower() for allowed in names}
    if bound in LOOPBACK:
        return name in known
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in known | {bound, socket.gethostname().lower(), socket.getfqdn().lower()}


class Server:
    """An HTTP server with a bound address. `serve_forever` runs it; `shutdown` stops it from another thread.

    Args:
        listening: the bound socket, which this object closes on exit from its context.
        watcher: reads the run.
        names: further host names that the user allows.
    """

    def __init__(self, listening: socket.socket, watcher: Watcher, names: Collection[str]) -> None:
        self._socket, self._watcher, self._names = listening, watcher, names
        self._bound = str(listening.getsockname()[0])
        self._started = threading.Event()

    @property
    def url(self) -> str:
        """The URL of the page."""
        port = self._socket.getsockname()[1]
        host = f"[{self._bound}]" if ":" in self._bound else self._bound
        return f"http://{host}:{port}/"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def serve_forever(self) -> None:
        """Answer requests in this thread until `shutdown` is called or Ctrl-C is pressed."""
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    def shutdown(self) -> None:
        """Make `serve_forever`, running in another thread, return. Blocks until it has started."""
        self._started.wait()
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        app = web.Application(middlewares=[self._guard])
        for path in ROUTES:
            app.router.add_get(path, self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket).start()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests for other hosts, and set the security headers of every response."""
        if not is_allowed(request.headers.get("Host", ""), self._bound, self._names):
            text = "Ask for this machine by its own name, or allow this one with --allow-host.\n"
            response: web.StreamResponse = web.Response(status=403, text=text)
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f"{error.reason}\n")
            except StoreUnreachable as error:
                response = web.Response(status=503, text=f"{error}\n")
        response.headers.update(HEADERS)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind, content = ROUTES[request.path]
        data = await asyncio.to_thread(content, self._watcher)
        return web.Response(body=data, content_type=kind, charset="utf-8")


def serve(run: StartedRun, host: str, port: int, names: Collection[str] = ()) -> Server:
    """Bind a server for a run; call its `serve_forever` to answer requests.

    Args:
        run: the run to show.
        host: an address of this machine.
        port: port number; 0 selects a free one.
        names: further host names to allow, in addition to the names of this machine.

    Raises:
        UserError: the address cannot be bound: it is in use, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be served at ({error.strerror}): choose another --port, 0 for a "
            "free one, or another --host."
        ) from None
    return Server(listening, Watcher(run), names)
