"""Chromium, driven through the pipe of its DevTools protocol: NUL-ended JSON messages on the files 3 and 4."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60.0  # longest wait for anything
IN, OUT = 3, 4  # files on which the browser reads and writes


def find() -> str | None:
    """The browser of this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserError(Exception):
    """The browser refused a command, ended, or did not answer; the message says which."""


class Chromium:
    """A browser with one page. `troubles`: what its console and its network complained of. A context manager."""

    def __init__(self, path: str, profile: Path, *arguments: str) -> None:
        self.troubles: list[str] = []
        self._number = 0
        self._session = ""
        self._rest = b""
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The shell moves the pipes to 3 and 4; their numbers here are free to be anything.
        script = f'exec "$0" "$@" {IN}<&{to_browser} {OUT}>&{from_browser}'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", script, path, "--headless=new", "--remote-debugging-pipe", "--no-first-run"),
                *(("--no-sandbox",) if os.geteuid() == 0 else ()),
                *("--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
                *(*arguments, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)

    def __enter__(self) -> Chromium:
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and all of its processes."""
        self._session = ""
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The result of one command, in the page or in another session; raises BrowserError."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session or self._session:
            message["sessionId"] = session or self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer.get("result", {})
                return result
            self._note(answer)

    def open(self, url: str) -> None:
        """Goes to a page and returns when it is loaded."""
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + SECONDS
        while self.run("document.readyState + location.href") != "complete" + url:
            if time.monotonic() > deadline:
                raise BrowserError(f"{url} was not loaded")
            time.sleep(0.05)

    def frame(self, url: str) -> str:
        """The session of the frame of another site whose address begins so, for `run`."""
        deadline = time.monotonic() + SECONDS
        while True:
            for target in self.call("Target.getTargets", filter=[{"type": "iframe"}])["targetInfos"]:
                if target["url"].startswith(url):
                    found = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
                    return str(found["sessionId"])
            if time.monotonic() > deadline:
                raise BrowserError(f"there is no frame of {url}")
            time.sleep(0.05)

    def run(self, script: str, session: str = "") -> Any:
        """The value of a script, awaited where it is a promise; raises BrowserError when it throws."""
        found = self.call("Runtime.evaluate", session=session, expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise BrowserError(json.dumps(found["exceptionDetails"])[:500])
        return found["result"].get("value")

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data:
                raise BrowserError("the browser ended" if ready else "the browser did not answer")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, given = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.troubles.append(f"log: {given['entry']['text']}")
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.troubles.append(f"console: {given['args'][0].get('value')}")
        elif method == "Runtime.exceptionThrown":
            self.troubles.append(f"exception: {given['exceptionDetails'].get('text')}")
        elif method == "Network.loadingFailed":
            blocked = given.get("corsErrorStatus", {}).get("corsError") or given.get("blockedReason")
            self.troubles.append(f"network: {given['errorText']} {blocked or ''}".strip())
