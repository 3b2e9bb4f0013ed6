"""A proxy before an S3 server that does on command what networks and busy servers do.

proxy.fail("503", times=3)                       refuses the next three requests
proxy.fail("503", seconds=30, methods=("PUT",))  takes no writes for half a minute
proxy.fail("stall", times=1)                     never answers; the client has to give up by itself
proxy.fail("reset", times=1)                     resets the connection before the server hears of the request
proxy.fail("lose", times=1, methods=("PUT",))    lets the server do it, then resets the connection
proxy.fail("hold", times=1, path="/levels/")     keeps the request back until proxy.heal(), then forwards it
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

SLOW_DOWN = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)


@dataclass
class Fault:
    """What happens to requests of these methods with `path` in their address: to the next `left` of them, until then
    (monotonic seconds), and of these to those that the pattern, begun again at its end, says."""

    what: str
    methods: Sequence[str]
    path: str
    left: float
    until: float
    pattern: Iterator[bool]

    def strikes(self, method: str, path: str) -> bool:
        if self.left <= 0 or time.monotonic() >= self.until:
            return False
        if (self.methods and method not in self.methods) or self.path not in path:
            return False
        self.left -= 1
        return next(self.pattern)


class FaultyProxy:
    """Listens on a free port of loopback, in a thread of its own, between `with`'s beginning and end."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._upstream = (parts.hostname, parts.port)
        self._faults: list[Fault] = []
        self._loop = asyncio.new_event_loop()
        self._healed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.struck: Counter[str] = Counter()
        """How many requests each kind of fault met."""
        self.requests: list[tuple[str, str]] = []
        """(method, path) of every request, in the order in which they came."""

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        serving = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def fail(
        self,
        what: str,
        *,
        times: float = float("inf"),
        seconds: float = float("inf"),
        methods: Sequence[str] = (),
        path: str = "",
        pattern: Sequence[bool] = (True,),
    ) -> None:
        """From now on `what` befalls requests of `methods` (all, if empty), so often or so long; with a pattern, only
        those of each few that it names."""
        assert what in ("503", "bare 503", "stall", "reset", "lose", "hold")
        self._faults.append(Fault(what, methods, path, times, time.monotonic() + seconds, cycle(pattern)))

    def heal(self) -> None:
        """From now on everything is forwarded, also what was held back."""
        self._faults.clear()
        self._loop.call_soon_threadsafe(self._healed.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled only at the end, where nobody would ask for the outcome but asyncio's log.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with self._connected() as (server_reader, server_writer):
                while await self._one_request(reader, writer, server_reader, server_writer):
                    pass
        writer.close()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self._upstream, limit=2**20)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _one_request(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path = head.split(b" ", 2)[:2]
        self.requests.append((method.decode(), path.decode()))
        fields = _fields(head)
        if fields.pop(b"expect", b""):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        body = await _body(reader, fields)
        fault = next((fault.what for fault in self._faults if fault.strikes(method.decode(), path.decode())), None)
        if fault:
            self.struck[fault] += 1
        if fault == "stall":
            await reader.read()  # until the client hangs up
            return False
        if fault == "hold":
            await self._healed.wait()
        if fault == "reset":
            return _reset(writer)
        if fault in ("503", "bare 503"):
            content = SLOW_DOWN if fault == "503" else b""
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(content))
            writer.write(b"" if method == b"HEAD" else content)
            await writer.drain()
            return True
        server_writer.write(head + body)
        await server_writer.drain()
        reply = await server_reader.readuntil(b"\r\n\r\n")
        fields = _fields(reply)
        if method != b"HEAD" and reply.split(b" ", 2)[1] not in (b"204", b"304"):
            reply += await _body(server_reader, fields)
        if fault == "lose":
            return _reset(writer)
        writer.write(reply)
        await writer.drain()
        return fields.get(b"connection", b"").lower() != b"close"


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = head.rstrip().split(b"\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> bytes:
    """The body as it was sent, its chunks and all."""
    if b"chunked" not in fields.get(b"transfer-encoding", b""):
        return await reader.readexactly(int(fields.get(b"content-length", 0)))
    parts = []
    while not parts or parts[-1] != b"\r\n":
        size = await reader.readline()
        parts += [size, await reader.readexactly(int(size.split(b";")[0], 16) + 2)]
    return b"".join(parts)


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Ends the connection as a crashed machine would, not with a proper farewell."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
