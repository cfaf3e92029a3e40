"""`toscore watch`: serve the page of a run to browsers of this machine, or of others if it is asked for.

A page of another site can have its own host name point at this machine and so read what is served here (DNS
rebinding). Therefore only requests for a known host are answered: a name of this machine, a name that the
user allows, or an IP address, which no other site can have as its name.
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

from orchestrator.dashboard.look import Watcher
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
    "/state.json": ("application/json", lambda w: json.dumps(w.look().to_json()).encode()),
    "/watch.js": ("text/javascript", lambda watcher: (TEMPLATES / "watch.js").read_bytes()),
}


def is_allowed(host: str, bound: str, names: Collection[str]) -> bool:
    """Whether a request with this `Host` header is answered.

    Args:
        host: the header, with or without a port.
        bound: the address that is served at.
        names: further names that the user allows.
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
    """A server whose address is bound; `serve_forever` answers until `shutdown` from another thread."""

    def __init__(self, listening: socket.socket, watcher: Watcher, names: Collection[str]) -> None:
        self._socket, self._watcher, self._names = listening, watcher, names
        self._bound = str(listening.getsockname()[0])
        self._started = threading.Event()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        port = self._socket.getsockname()[1]
        host = f"[{self._bound}]" if ":" in self._bound else self._bound
        return f"http://{host}:{port}/"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def serve_forever(self) -> None:
        """Answer requests in this thread, until `shutdown` or Ctrl-C."""
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    def shutdown(self) -> None:
        """Let `serve_forever`, which another thread has called, return."""
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
        """Refuse requests for other hosts, and give every answer the same headers."""
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
    """A server that is bound and not yet serving.

    Args:
        run: what to show.
        host: an address of this machine.
        port: 0 takes a free one.
        names: hosts by which it may be asked for, beside this machine's own.

    Raises:
        UserError: the address is in use, or not one of this machine.
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
