"""Chromium, headless, to run in a captured network: loads pages again and again, and says how long each took.

python -m tests.e2e.browser CERTIFICATE ROUNDS URL...   a JSON object a line: url, milliseconds, protocol, images

It is told what to do by the DevTools protocol. Each load has a browser context of its own, as new as on its first day:
with no cache, no connection, and nothing known of who offers HTTP/3. CERTIFICATE, the server's, is believed.
"""

import base64
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import connect

WITHIN = 20.0  # seconds for whatever is waited for
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
    "--disable-domain-reliability", "--no-first-run", "--no-pings", "--disable-extensions", "--window-size=800,600",
    "--enable-features=AsyncDns", "--disable-features=OptimizationHints,MediaRouter",
)  # fmt: skip
IMAGES = 6
_CIRCLE = """<svg xmlns="http://www.w3.org/2000/svg" width="80" height="80">
<circle cx="40" cy="40" r="{radius}" fill="teal"/></svg>"""
_TIMING = """(() => {
    const [page] = performance.getEntriesByType("navigation");
    return {milliseconds: page.loadEventStart, protocol: page.nextHopProtocol,
            images: [...document.images].filter(image => image.naturalWidth > 0).length};
})()"""


class Browser:
    """A running Chromium."""

    def __init__(self, certificate: Path, folder: Path, *more: str) -> None:
        """more: further flags."""
        flags = [*_FLAGS, f"--user-data-dir={folder}", f"--ignore-certificate-errors-spki-list={_pin(certificate)}"]
        self._process = subprocess.Popen(
            ["chromium", *flags, *more, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._said = folder / "DevToolsActivePort"
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        end = time.monotonic() + WITHIN
        while not (self._said.exists() and len(lines := self._said.read_text().split()) == 2):
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"chromium does not listen; it ended with {self._process.poll()}")
            time.sleep(0.05)  # noqa: TID251 - another process is waited for
        with ExitStack() as stack:
            listens = f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            self._socket = stack.enter_context(connect(listens, max_size=None, compression=None))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.call("Browser.close")
            self._process.wait(WITHIN)

    def load(self, url: str) -> dict[str, Any]:
        """Load a page in a context of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable", session)
        self._events.clear()
        error = self.call("Page.navigate", session, url=url).get("errorText")
        if error:
            return {"url": url, "error": error}
        self._wait("Page.loadEventFired")
        found = self.call("Runtime.evaluate", session, expression=_TIMING, returnByValue=True)["result"]["value"]
        self.call("Target.disposeBrowserContext", browserContextId=context)
        return {"url": url, **found}

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps({**message, "sessionId": session} if session else message))
        while (said := self._receive()).get("id") != number:
            self._events.append(said)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        result: dict[str, Any] = said["result"]
        return result

    def _wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._socket.recv(WITHIN))
        return said


def _pin(certificate: Path) -> str:
    """SHA-256 of its public key, as Chromium wants it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(octets).digest()).decode()


def page() -> dict[str, bytes]:
    """A page and its images, by name: so many that a browser asks for most of them at once."""
    images = {f"{number}.svg": _CIRCLE.format(radius=10 + 5 * number).encode() for number in range(IMAGES)}
    shown = "".join(f'<img src="/{name}" width=80>' for name in images)
    return {"page": f"<!doctype html><title>page</title><h1>It loads over TCP</h1>{shown}".encode(), **images}


def main(certificate: str, rounds: str, *urls: str) -> None:
    """Load each URL so many times, in turn."""
    with tempfile.TemporaryDirectory() as folder, Browser(Path(certificate), Path(folder)) as browser:
        for url in urls:  # what is only slow the first time
            browser.load(url)
        for _ in range(int(rounds)):
            for url in urls:
                sys.stdout.write(json.dumps(browser.load(url)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
