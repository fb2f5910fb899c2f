"""A real redis-server, on a Unix socket in a directory of its own."""

import os
import signal
import subprocess
from pathlib import Path


class RedisServer:
    """Started, killed, stopped and started again as a test needs it. It keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / "redis.sock"
        self.url = f"unix://{self.path}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        command = [
            os.environ.get("NETSTACK_TEST_REDIS", "redis-server"),
            "--port",
            "0",
            "--unixsocket",
            str(self.path),
            "--save",
            "",
            *options,
        ]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._directory)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "eady to accept connections" in line:
                return
        raise AssertionError("redis-server did not start: " + "".join(said))

    def kill(self) -> None:
        """As by a crash: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def pause(self) -> None:
        """It is there, and says nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, *command: str) -> str:
        """What redis-cli prints for a command."""
        done = subprocess.run(
            ["redis-cli", "-s", str(self.path), "--raw", *command],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()
