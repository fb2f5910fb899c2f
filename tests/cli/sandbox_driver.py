"""A supervisor with nothing behind the TUN: `python sandbox_driver.py [--hide DIR] CMD...` runs CMD in a sandbox."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from netstack.cli.identity import PrivilegeError, caller, check_privileges
from netstack.cli.sandbox import Sandbox, SandboxError
from netstack.runtime.load import load


def main() -> int:
    arguments = sys.argv[1:]
    hidden = []
    if arguments[0] == "--hide":
        hidden, arguments = [Path(arguments[1])], arguments[2:]
    config = load(None, json.loads(os.environ.get("SETTINGS", "[]")), {})
    identity = caller()
    try:
        check_privileges(identity)
    except PrivilegeError as error:
        print(f"privilege: {error}", file=sys.stderr)
        return 1
    created = time.monotonic()
    sandbox = Sandbox.create(config, identity, hidden)

    async def run() -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, lambda: None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            loop.add_signal_handler(number, sandbox.signal, number)
        try:
            tun = await sandbox.tun()
        except SandboxError as error:
            print(f"sandbox: {error}", file=sys.stderr)
            return 1
        built = time.monotonic()
        sandbox.start(arguments, os.environ)
        started = time.monotonic()
        try:
            return await sandbox.wait()
        finally:
            sandbox.close()
            for descriptor in tun:
                os.close(descriptor)
            if "TIMES" in os.environ:
                print(
                    f"create to tun {built - created:.3f} s, start to end {time.monotonic() - started:.3f} s",
                    file=sys.stderr,
                )

    return asyncio.run(run())


sys.exit(main())
