"""A network on this machine: a proxy that delays and paces what passes, and counts it. A process of its own.

Each byte waits its turn on a line of so many bits a second, one for each direction and shared by all connections, and
then half a round trip; a new connection costs a round trip before that. Counted are the bytes of both directions, and
the turns: how often a client spoke after its server had, which with HTTP is its requests.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import msgspec

_CHUNK_BYTES = 16 * 1024
_CHUNKS = 32


class Counted(msgspec.Struct, frozen=True):
    """What passed a proxy."""

    size_bytes: int = 0
    turns: int = 0
    connections: int = 0

    def since(self, before: Counted) -> Counted:
        """What passed after another count."""
        return Counted(*(getattr(self, each) - getattr(before, each) for each in self.__struct_fields__))


class Proxy:
    """A proxy that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.port = int(self._line())

    def count(self) -> Counted:
        """What passed so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=Counted)

    def at(self, url: str) -> str:
        """The address of what lies behind it."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def proxy(target: str, *, round_trip_s: float = 0.0, bits_per_s: float = 0.0) -> Generator[Proxy]:
    """Run a proxy before the server of an address; ``bits_per_s`` 0 is as fast as this machine."""
    place = urlsplit(target)
    command = [sys.executable, __file__, str(place.port), str(round_trip_s), str(bits_per_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Proxy(process)
        finally:
            process.kill()


class _Line:
    """One direction: when what is sent now will have arrived."""

    def __init__(self, delay_s: float, bits_per_s: float) -> None:
        self._delay_s, self._bits_per_s = delay_s, bits_per_s
        self._free_s = 0.0
        self.size_bytes = 0

    def arrives_s(self, now_s: float, size_bytes: int) -> float:
        self.size_bytes += size_bytes
        took_s = 8 * size_bytes / self._bits_per_s if self._bits_per_s else 0.0
        self._free_s = max(now_s, self._free_s) + took_s
        return self._free_s + self._delay_s


class _Network:
    def __init__(self, port: int, round_trip_s: float, bits_per_s: float) -> None:
        self._port, self._round_trip_s = port, round_trip_s
        self._up, self._down = (_Line(round_trip_s / 2, bits_per_s) for _ in range(2))
        self._turns = self._connections = 0
        self._last: dict[int, _Line] = {}

    def counted(self) -> Counted:
        return Counted(self._up.size_bytes + self._down.size_bytes, self._turns, self._connections)

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        await asyncio.sleep(self._round_trip_s)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(
            self._carry(connection, reader, far_writer, self._up),
            self._carry(connection, far_reader, writer, self._down),
        )
        self._last.pop(connection, None)

    async def _carry(self, connection: int, reader: StreamReader, writer: StreamWriter, line: _Line) -> None:
        """Bring what one side says to the other, until it ends."""
        coming: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
        delivery = asyncio.create_task(_deliver(coming, writer))
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if line is self._up and self._last.get(connection) is not line:
                    self._turns += 1
                self._last[connection] = line
                await coming.put((line.arrives_s(loop.time(), len(data)), data))
        await coming.put((0.0, b""))
        await delivery


async def _deliver(coming: asyncio.Queue[tuple[float, bytes]], writer: StreamWriter) -> None:
    """Write each part when it arrives; nothing ends the sender but its own end."""
    loop = asyncio.get_running_loop()
    while (part := await coming.get())[1]:
        wait_s = part[0] - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        with suppress(OSError):
            writer.write(part[1])
            await writer.drain()
    with suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def _serve(port: int, round_trip_s: float, bits_per_s: float) -> None:
    network = _Network(port, round_trip_s, bits_per_s)
    server = await asyncio.start_server(network.connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    asked = StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while await asked.readline():
        print(json.dumps(msgspec.to_builtins(network.counted())), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
