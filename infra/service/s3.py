"""A part of the storage in a bucket of S3, or of whatever speaks its protocol (MinIO, Ceph, versitygw and others).

It must be able to write an object only where there is none (`If-None-Match: *`), as those can.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from infra.service.files import PIECE
from infra.service.settings import Settings, SettingsError
from infra.service.storage import Stat, checked_key
from schemas.videos import CONTENT_TYPES

RANGE = 8 * PIECE  # bytes that one request reads
PART = 8 * PIECE  # bytes of one part of an upload
MOST_PARTS = 9_000  # S3 takes 10,000
AT_ONCE = 2  # parts under way
ANSWER_SECONDS, CONNECT_SECONDS = 30, 5
CHECK = "check"  # a key
RETRIES, RETRY_SECONDS = 3, 20


class Bucket:
    """Objects below a prefix of a bucket."""

    def __init__(self, settings: Settings, part: str) -> None:
        """`part`: of the storage; the last part of the prefix."""
        place = urlsplit(settings.video_storage)
        self._name = place.netloc
        given = {
            "endpoint": settings.s3_endpoint,
            "access_key_id": settings.s3_access_key_id,
            "secret_access_key": settings.s3_secret_access_key.get_secret_value(),
        }
        # What is not given is as AWS's own variables and the machine's role have it.
        self._store = S3Store(
            place.netloc,
            prefix="/".join(filter(None, (place.path.strip("/"), part))),
            region=settings.s3_region,
            virtual_hosted_style_request=not settings.s3_endpoint,
            client_options={
                "allow_http": (settings.s3_endpoint or "").startswith("http://"),
                "timeout": timedelta(seconds=ANSWER_SECONDS),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
        )

    def check(self) -> None:
        """Raises SettingsError where the bucket is not there, or may not be written to; says nothing where nobody
        answers."""
        try:
            obstore.put(self._store, CHECK, b"")
            obstore.delete(self._store, CHECK)
        except (FileNotFoundError, PermissionDeniedError, UnauthenticatedError) as error:
            raise SettingsError(
                f"VEILSTREAM_VIDEO_STORAGE: bucket {self._name} cannot be used: {type(error).__name__}"
            ) from None
        except BaseError:
            return

    def put(self, key: str, content: bytes) -> None:
        with _errors():
            obstore.put(self._store, checked_key(key), content, attributes=_kind(key))

    def create(self, key: str, content: bytes) -> bool:
        with _errors():
            try:
                obstore.put(self._store, checked_key(key), content, attributes=_kind(key), mode="create")
            except AlreadyExistsError:
                return False
        return True

    def take(self, key: str, file: Path) -> None:
        size = max(PART, file.stat().st_size // MOST_PARTS)
        with _errors():
            obstore.put(
                self._store, checked_key(key), file, attributes=_kind(key), chunk_size=size, max_concurrency=AT_ONCE
            )
        file.unlink()

    def read(self, key: str) -> bytes | None:
        with _errors(), suppress(FileNotFoundError):
            return bytes(obstore.get(self._store, checked_key(key)).bytes())
        return None

    def stat(self, key: str) -> Stat | None:
        with _errors(), suppress(FileNotFoundError):
            found = obstore.head(self._store, checked_key(key))
            return Stat(found["size"], (found["e_tag"] or "").strip('"'), found["last_modified"].timestamp())
        return None

    def pieces(self, key: str, first: int, length: int) -> Iterator[bytes]:
        # A range at a time: each has its own time limit and is asked for again where it fails.
        end = first + length
        while first < end:
            until = min(end, first + RANGE)
            with _errors():
                piece = bytes(obstore.get_range(self._store, checked_key(key), start=first, end=until))
            yield piece
            first = until

    def local(self, key: str) -> Path | None:
        checked_key(key)
        return None

    def remove(self, prefix: str) -> None:
        with _errors():
            keys = self._keys(prefix) if prefix.endswith("/") else [checked_key(prefix)]
            if keys:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, keys)

    def old(self, prefix: str, before: float) -> Iterator[str]:
        with _errors():
            for found in obstore.list(self._store, checked_key(prefix.removesuffix("/"))):
                for entry in found:
                    if entry["last_modified"].timestamp() < before:
                        yield entry["path"]

    def _keys(self, prefix: str) -> list[str]:
        listed = obstore.list(self._store, checked_key(prefix.removesuffix("/")))
        return [entry["path"] for found in listed for entry in found]


def _kind(key: str) -> dict[str, str]:
    kind = CONTENT_TYPES.get(key.rpartition(".")[2])
    return {"Content-Type": kind} if kind else {}


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of the client as OSError; their texts quote addresses and keys, so they are left out."""
    try:
        yield
    except BaseError as error:
        raise OSError(errno.EIO, f"the object storage fails: {type(error).__name__}") from None
