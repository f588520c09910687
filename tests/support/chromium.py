"""A headless Chromium driven by its own protocol through a pipe: no driver program, no port, no further package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]
# The protocol lives on descriptors 3 and 4 of the browser.
LAUNCHER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, place in zip(high, (3, 4)):
    os.dup2(fd, place)
    os.close(fd)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE_S = 60.0


def find_chromium() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chromium:
    """One page of a browser; ``problems`` are its console errors and exceptions, ``requests`` what it asked for."""

    def __init__(self, program: str) -> None:
        self.profile = tempfile.mkdtemp(prefix="tessera-chromium-")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()

        command = [program, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(to_read), str(to_write), *command],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number = b"", 0
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, params: dict[str, Any] | None = None, session: str | None = "own") -> dict[str, Any]:
        """Send one command and wait for its answer; RuntimeError when the browser refuses it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self._receive(end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._from, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:800])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(params["args"])[:800])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def size(self, width: int, height: int, dark: bool = False, mobile: bool = False) -> None:
        """Set the window's size in CSS pixels and the preferred colour scheme."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", shape)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file, at a fragment ('#...') of it, as a fresh page and wait until it is loaded."""
        if fragment:  # from the file itself this would only be a jump within the page
            self.call("Page.navigate", {"url": "about:blank"})
        self.call("Page.navigate", {"url": path.resolve().as_uri() + fragment})
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression (JSON values; promises are awaited); RuntimeError when it throws."""
        params = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", params)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:800])
        return answer["result"].get("value")

    def until(self, script: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until a JavaScript expression is true; TimeoutError with the expression when it never is."""
        end = time.monotonic() + patience_s
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.05)

    def _mouse(self, kind: str, x: float, y: float, buttons: int = 0) -> None:
        params = {"type": kind, "x": x, "y": y, "button": "left" if buttons or kind != "mouseMoved" else "none"}
        self.call("Input.dispatchMouseEvent", {**params, "buttons": buttons, "clickCount": 1})

    def click(self, selector: str) -> None:
        """Scroll an element into view and click its middle with the mouse."""
        x, y = self.middle(selector)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y, 1)
        self._mouse("mouseReleased", x, y)

    def hover(self, selector: str) -> None:
        """Move the mouse over the middle of an element."""
        x, y = self.middle(selector)
        self._mouse("mouseMoved", x - 1, y)
        self._mouse("mouseMoved", x, y)

    def drag(self, selector: str, fraction: float) -> None:
        """Press in the middle of an element and drag to a fraction of its width."""
        x, y = self.middle(selector)
        box = self.run(
            f"(() => {{ const b = {_find(selector)}.getBoundingClientRect(); return [b.left, b.width]; }})()"
        )
        self._mouse("mousePressed", x, y, 1)
        self._mouse("mouseMoved", box[0] + fraction * box[1], y, 1)
        self._mouse("mouseReleased", box[0] + fraction * box[1], y)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element after it was scrolled into view."""
        found = self.run(
            f"(() => {{ const e = {_find(selector)}; e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            "const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        return found[0], found[1]

    def key(self, name: str) -> None:
        """Press a named key, e.g. 'ArrowRight'."""
        for kind in ("keyDown", "keyUp"):
            codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, " ": 32}
            params = {"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": codes.get(name, 0)}
            self.call("Input.dispatchKeyEvent", params)

    def choose(self, selector: str, text: str) -> None:
        """Choose the option of a select whose text begins with ``text``."""
        done = self.run(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)});"
            f"const o = [...s.options].find((o) => o.text.startsWith({json.dumps(text)})); if (!o) return false;"
            "s.value = o.value; s.dispatchEvent(new Event('change', {bubbles: true})); return true; })()"
        )
        assert done, f"{selector} has no option {text}"

    def shot(self, path: Path, whole: bool = True) -> Path:
        """A PNG of the whole page or of the window."""
        params: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            area = self.call("Page.getLayoutMetrics")["cssContentSize"]
            params["clip"] = {"x": 0, "y": 0, "width": area["width"], "height": area["height"], "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", params)["data"]))
        return path


def _find(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"
