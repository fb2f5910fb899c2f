"""A Unix socket that leads to another one, slowly: what is said in either direction waits for a time, in its order.

Run as a program: PATH OF-THE-OTHER LEAST MOST; the times, in milliseconds, are drawn anew for each piece. Says "up" on
standard output once it listens. SIGUSR1 makes it pass everything at once from then on, SIGUSR2 slow again.
"""

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress

_PIECE = 65536


class SlowSocket:
    """Both directions of all connections."""

    def __init__(self, other: str, least: float, most: float) -> None:
        self._other = other
        self._range = (least / 1000, most / 1000)
        self._slow = True

    def hurry(self) -> None:
        """Nothing waits from now on."""
        self._slow = False

    def linger(self) -> None:
        """It is slow again."""
        self._slow = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            other_reader, other_writer = await asyncio.open_unix_connection(self._other)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass_on(reader, other_writer), self._pass_on(other_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                if self._slow:
                    await asyncio.sleep(random.uniform(*self._range))
                writer.write(piece)
                await writer.drain()
        writer.close()


async def main(path: str, other: str, least: str, most: str) -> None:
    """Serve until killed."""
    slow = SlowSocket(other, float(least), float(most))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, slow.hurry)
    loop.add_signal_handler(signal.SIGUSR2, slow.linger)
    os.umask(0)  # its clients are not root
    server = await asyncio.start_unix_server(slow.serve, path)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
