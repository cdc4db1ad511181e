"""A real server of S3's protocol on this machine: versitygw over a folder, built by Go from its module."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local.ports import free

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
KEY, SECRET = "key-of-tests", "secret-of-tests"
LIMIT = 60.0  # seconds


@dataclass
class Gateway:
    """A running server. `folder` holds a folder for each bucket."""

    port: int
    folder: Path

    def bucket(self) -> dict[str, Any]:
        """The settings of a new bucket."""
        name = f"b{secrets.token_hex(8)}"
        (self.folder / name).mkdir()
        return {
            "video_storage": f"s3://{name}/some/prefix",
            "s3_endpoint": f"http://127.0.0.1:{self.port}",
            "s3_access_key_id": KEY,
            "s3_secret_access_key": SECRET,
        }

    def objects(self, settings: dict[str, Any]) -> dict[str, bytes]:
        """All that is in a bucket, by key below the prefix."""
        top = self.folder / settings["video_storage"].split("/")[2] / "some/prefix"
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    """A server for as long as the block lasts; skips the test where it cannot be built."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed, so nothing is tested against a server of S3's protocol")
    environment = {**os.environ, "GOBIN": str(folder), "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
    command = [go, "install", MODULE]
    built = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=280)
    if built.returncode:
        pytest.skip("Go's module proxy does not answer, so nothing is tested against a server of S3's protocol")
    (port,) = free(1)
    data = folder / "data"
    data.mkdir()
    setpriv = [setpriv, "--pdeathsig", "KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*setpriv, str(folder / "versitygw"), "--port", f"127.0.0.1:{port}", "posix", str(data)],
            env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield Gateway(port, data)
    finally:
        process.kill()
        process.wait()
