"""A headless Chromium driven over its debugging pipe, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def installed() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page. `requests` are the addresses that it asked for, `errors` what its console said went
    wrong.
    """

    def __init__(self, profile: Path) -> None:
        there, mine = os.pipe()  # what the browser reads from its descriptor 3
        own, its = os.pipe()  # what it writes to its descriptor 4
        program = installed()
        assert program is not None, "no Chromium on PATH"
        options = (
            "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe "
            "--no-first-run"
        )
        moved = f'exec "$0" "$@" 3<&{there} 4>&{its}'
        command = [
            "bash",
            "-c",
            moved,
            program,
            *options.split(),
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=(there, its), stdout=quiet, stderr=quiet)
        os.close(there)
        os.close(its)
        self._out, self._in = os.fdopen(mine, "wb", buffering=0), os.fdopen(own, "rb", buffering=0)
        self._last, self._rest, self._session = 0, b"", ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._out.close()
        self._in.close()
        self._process.terminate()
        self._process.wait(10)

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        self._last += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._last, "method": method, "params": values} | session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in.fileno(), 1 << 16)
            assert more, "the browser is gone"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        kind, values = message.get("method"), message.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif kind == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(values["entry"]["text"])
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(str(values["exceptionDetails"]))
        return message

    def open(self, address: str) -> None:
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, script: str) -> Any:
        """What an expression of JavaScript comes to on the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Waits until an expression is true; a test in which it never is ends by pytest's limit."""
        while not (found := self.value(f"Boolean({script})")):
            time.sleep(0.03)
        return found

    def window(self, width: int, height: int = 900, dark: bool = False) -> None:
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])

    def screenshot(self, file: Path) -> None:
        """The whole page, however long."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(size["height"], 16000),
            "scale": 1,
        }
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))
