"""Objects in a bucket of S3, Google Cloud Storage or Azure. One request writes a whole object, so no reader
sees a part of it.

obstore reads the endpoint, the region and the credentials from the environment or from the role of the
machine: `AWS_*` for `s3://` (`AWS_ENDPOINT_URL` for other servers with the S3 protocol), `GOOGLE_*` for
`gs://`, `AZURE_*` for `az://`. No message contains credentials. An endpoint without TLS is refused unless
`AWS_ALLOW_HTTP`, `GOOGLE_ALLOW_HTTP` or `AZURE_ALLOW_HTTP` is `true`.

A request that fails for a temporary reason is repeated for `PATIENCE`, with growing pauses. If the answer to
a write is lost, the write may have been executed. Writing an immutable object again is harmless; after a
conditional write, the object is read back and compared.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from workers.storage.objects import (
    AlreadyExists,
    Conflict,
    NotFound,
    NotWritable,
    ObjectInfo,
    StoreFull,
    StoreUnreachable,
    checked_name,
)

PATIENCE = timedelta(seconds=30)
"""How long a request is repeated before `StoreUnreachable` is raised. Short network failures end within
it."""

_ANSWER_TIMEOUT = timedelta(seconds=60)
"""Time after which a request is aborted and sent again; it must suffice for the upload of a large object."""

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
"""Error codes for a bucket that does not exist: of S3 and Google, and of Azure."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Provider:
    """A kind of object store.

    Attributes:
        endpoint: environment variable with the URL of another server.
        allow_http: environment variable that permits an endpoint without TLS.
        credentials: the environment variables that a user without access should check, for messages.
        generations: whether versions of objects are numbers (generations) and not entity tags.
        account: environment variable that must be set to open a bucket; empty if there is none.
    """

    endpoint: str
    allow_http: str
    credentials: str
    generations: bool = False
    account: str = ""


PROVIDERS: Mapping[str, Provider] = {
    "s3": Provider(
        "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ),
    "gs": Provider(
        "GOOGLE_BASE_URL",
        "GOOGLE_ALLOW_HTTP",
        "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
        generations=True,
    ),
    "az": Provider(
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_ALLOW_HTTP",
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        account="AZURE_STORAGE_ACCOUNT_NAME",
    ),
}
"""The kinds of object stores, by the scheme of their URLs."""


class BucketObjects:
    """Objects at `scheme://bucket/prefix`; implements `Objects`.

    Args:
        url: the location.
        patience: how long a request is repeated.

    Raises:
        NotWritable: the URL is not complete, the endpoint has no TLS, or there are no credentials.
    """

    def __init__(self, url: str, patience: timedelta = PATIENCE) -> None:
        scheme, _, path = url.partition("://")
        bucket, *folders = path.rstrip("/").split("/")
        if not bucket:
            raise NotWritable(f"{url} names no bucket: write {scheme}://bucket/prefix.")
        if any(folder in ("", ".", "..") or "\0" in folder for folder in folders):
            raise NotWritable(
                f"{url!r} is no location in a bucket: write {scheme}://bucket/prefix, without empty parts, "
                "'..' and NUL characters."
            )
        self._url = "/".join([f"{scheme}://{bucket}", *folders])
        self._provider = PROVIDERS[scheme]
        self._patience = patience
        self._generations = self._provider.generations
        provider = self._provider
        allow_http = os.environ.get(provider.allow_http, "").lower() in ("1", "true", "yes")
        endpoint = os.environ.get(provider.endpoint, "")
        if endpoint.startswith("http://") and not allow_http:
            raise NotWritable(
                f"{provider.endpoint} is {endpoint}, which is not encrypted: use https, or set "
                f"{provider.allow_http}=true if the network can be trusted."
            )
        if provider.account and not os.environ.get(provider.account):
            raise NotWritable(
                f"There are no credentials for {self._url}: set {provider.credentials} in the environment."
            )
        try:
            self._store = from_url(
                self._url,
                client_options={"allow_http": allow_http, "timeout": _ANSWER_TIMEOUT},
                retry_config={
                    "max_retries": 1000,
                    "retry_timeout": patience,
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=50),
                        "max_backoff": timedelta(seconds=2),
                        "base": 2,
                    },
                },
            )
        except BaseError as error:
            raise NotWritable(
                f"{self._url} cannot be opened ({_cause(error)}): check {provider.credentials}."
            ) from None

    @property
    def url(self) -> str:
        return self._url

    def check_writable(self) -> None:
        """Check the access by writing and deleting an object."""
        self.put(".toscore-probe", b"?")
        self.delete(".toscore-probe")

    def put(self, name: str, data: bytes) -> None:
        path = str(checked_name(name))
        try:
            self._repeat(lambda: obstore.put(self._store, path, data, use_multipart=False))
        except NotFound:  # for a write, only the bucket can be missing
            raise self._no_bucket() from None

    def get(self, name: str) -> bytes:
        path = str(checked_name(name))
        return self._repeat(lambda: obstore.get(self._store, path).bytes().to_bytes())

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        folder = str(checked_name(prefix)) if prefix else None
        chunks = self._repeat(lambda: list(obstore.list(self._store, folder, chunk_size=1000)))
        objects = [ObjectInfo(item["path"], item["size"]) for chunk in chunks for item in chunk]
        return sorted(objects, key=lambda info: info.name)

    def delete(self, name: str) -> None:
        path = str(checked_name(name))
        try:
            self._repeat(lambda: obstore.delete(self._store, path))
        except NotFound:
            return

    def create(self, name: str, data: bytes) -> str:
        path = str(checked_name(name))
        try:
            result = self._repeat(
                lambda: obstore.put(self._store, path, data, mode="create", use_multipart=False)
            )
        except (AlreadyExistsError, PreconditionError):
            return self._own(name, data, AlreadyExists(f"{name} exists already in {self._url}."))
        return self._version(result)

    def swap(self, name: str, data: bytes, version: str) -> str:
        path = str(checked_name(name))
        try:
            result = self._repeat(
                lambda: obstore.put(
                    self._store,
                    path,
                    data,
                    mode={"version": version} if self._generations else {"e_tag": version},
                    use_multipart=False,
                )
            )
        except (PreconditionError, NotFound):
            lost = Conflict(f"{name} in {self._url} was changed by another process.")
            return self._own(name, data, lost)
        return self._version(result)

    def read_versioned(self, name: str) -> tuple[bytes, str]:
        path = str(checked_name(name))

        def read() -> tuple[bytes, str]:
            answer = obstore.get(self._store, path)
            return answer.bytes().to_bytes(), self._version(answer.meta)

        return self._repeat(read)

    def sweep(self) -> None:
        """Do nothing: an interrupted request leaves no object."""

    def _version(self, answer: Mapping[str, Any]) -> str:
        return answer.get("version" if self._generations else "e_tag") or ""

    def _own(self, name: str, data: bytes, otherwise: Exception) -> str:
        """The version of the object if its bytes are `data`: then the write succeeded and its answer was
        lost.

        Raises:
            Exception: `otherwise`, if the object has other bytes or does not exist.
        """
        try:
            current, version = self.read_versioned(name)
        except NotFound:
            raise otherwise from None
        if current != data:
            raise otherwise
        return version

    def _repeat(self, request: Callable[[], _Answer]) -> _Answer:
        """Send a request, and repeat it while the store does not answer.

        The client library repeats requests that a server refused, but not a write that timed out.

        Raises:
            StoreUnreachable: there was no answer for `patience`.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(StoreUnreachable),
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        answer: _Answer = retrying(self._once, request)
        return answer

    def _once(self, request: Callable[[], _Answer]) -> _Answer:
        try:
            return request()
        except (AlreadyExistsError, PreconditionError):
            raise
        except (NotFoundError, FileNotFoundError) as error:
            if any(code in str(error) for code in _NO_BUCKET):
                raise self._no_bucket() from None
            raise NotFound(f"There is no such object in {self._url}.") from None
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise NotWritable(
                f"{self._url} refused access ({_cause(error)}): check {self._provider.credentials}, "
                "and the rights that they give."
            ) from None
        except GenericError as error:
            raise self._translated(error) from None
        except (BaseError, TimeoutError, ConnectionError) as error:
            raise StoreUnreachable(f"{self._url} did not answer ({_cause(error)}).") from None

    def _no_bucket(self) -> NotWritable:
        return NotWritable(f"The bucket of {self._url} does not exist: create it first.")

    def _translated(self, error: GenericError) -> Exception:
        text = str(error)
        if "Missing" in text.partition("\n")[0] or "169.254." in text:
            return NotWritable(
                f"There are no credentials for {self._url}: set {self._provider.credentials} in the "
                "environment."
            )
        if "InsufficientStorage" in text or "QuotaExceeded" in text or " 507 " in text:
            return StoreFull(
                f"There is no space left in {self._url}: free some space and run again."
            )
        return StoreUnreachable(f"{self._url} did not answer ({_cause(error)}).")


def _cause(error: Exception) -> str:
    """The cause of an error in a few words, without the request: its signature must not appear in
    messages."""
    text = str(error).partition("\n\nDebug source")[0]
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return code.group(1)
    if status := re.search(r"status code: (\d{3} [A-Za-z ]+)", text):
        return status.group(1).strip()
    return "no connection" if "sending request" in text else "no answer in time"
