"""The least that a put can cost in Python: three processes that replicate bytes, and a client, with nothing of Raft.

Each host leads a third of what is put. A frame of puts is sent to both other hosts and committed to LMDB by a
thread, as ``runtime.disk`` does; the others commit it and say so; with one of these answers and its own commit the
leader puts the keys into a dictionary and answers. No terms, checks, sessions, checksums, Cap'n Proto, limits or
timeouts; frames are a length and bytes, and one frame holds everything for all shards of a host. What this costs a
store of this shape pays too: sockets, wake-ups, commits, and Python whose code left the caches in between.

    python -m bench.skeleton [--in-flight 64] [--seconds 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import lmdb
import trio

from bench.harness.keys import value_of
from bench.harness.launching import free_ports
from bench.harness.process import cpu_seconds

HOSTS: Final = 3
KEY_BYTES: Final = 16
PUT_BYTES: Final = KEY_BYTES + 256
FRAME_BYTES_MAX: Final = 1 << 20
WARM_UP_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 0.1
PUTS, ENTRIES, DURABLE, ANSWER, COUNT = b"P", b"E", b"D", b"A", b"C"

Heard = Callable[[bytes, bytes], None]
"""Called with a frame's kind and its bytes."""


class Link:
    """One connection: whole frames in, whole frames out."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        self._socket = sock
        self._plain = sock._sock  # type: ignore[attr-defined]  # What is sent at once needs no task.

    def send(self, kind: bytes, data: bytes) -> None:
        frame = len(data).to_bytes(4, "little") + kind + data
        sent = self._plain.send(frame)
        assert sent == len(frame), "a frame is smaller than a socket's buffer"

    async def hear(self, heard: Heard) -> None:
        """Until the other side closes."""
        rest = b""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            data = self._plain.recv(FRAME_BYTES_MAX)
            if not data:
                return
            rest, start = rest + data if rest else data, 0
            while len(rest) - start >= 5:
                end = start + 5 + int.from_bytes(rest[start : start + 4], "little")
                if len(rest) < end:
                    break
                heard(rest[start + 4 : start + 5], rest[start + 5 : end])
                start = end
            rest = rest[start:]


class Log:
    """A thread that commits whatever waits in one transaction, and calls back on the loop."""

    def __init__(self, path: Path) -> None:
        self._environment = lmdb.open(str(path), map_size=8 << 30, lib_version=0)
        self._queue: SimpleQueue[None] = SimpleQueue()
        self._waiting: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._number = 0
        self._token = trio.lowlevel.current_trio_token()
        threading.Thread(target=self._run, daemon=True).start()

    def commit(self, data: bytes, done: Callable[[], None]) -> None:
        self._waiting.append((data, done))
        if len(self._waiting) == 1:
            self._queue.put(None)

    def _run(self) -> None:
        while True:
            self._queue.get()
            joined = []
            while self._waiting:
                joined.append(self._waiting.popleft())
            if joined:
                with self._environment.begin(write=True) as transaction:
                    for data, _ in joined:
                        self._number += 1
                        transaction.put(self._number.to_bytes(8, "big"), data, append=True)
                self._token.run_sync_soon(_call_all, [done for _, done in joined])


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


class Host:
    """One of the three: leads the frames that the client sends it, follows those of the others."""

    def __init__(self, number: int, ports: list[int], directory: Path) -> None:
        self._number = number
        self._ports = ports
        self._log = Log(directory)
        self._items: dict[bytes, bytes] = {}
        self._peers: dict[int, Link] = {}
        self._client: Link | None = None
        self._next = 0
        self._durable: dict[bytes, int] = {}
        self._puts: dict[bytes, bytes] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, self._serve, self._ports[self._number])
            for other in range(HOSTS):
                if other != self._number:
                    nursery.start_soon(self._connect, other)

    async def _connect(self, other: int) -> None:
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self._ports[other])
                break
            except OSError:
                await trio.sleep(0.05)
        self._peers[other] = link = Link(stream.socket)
        link.send(b"H", bytes([self._number]))
        await link.hear(self._answered)

    async def _serve(self, stream: trio.SocketStream) -> None:
        link = Link(stream.socket)
        await link.hear(lambda kind, data: self._heard(link, kind, data))

    def _heard(self, link: Link, kind: bytes, data: bytes) -> None:
        if kind == PUTS:
            self._lead(link, data)
        elif kind == ENTRIES:
            number = data[:8]
            self._log.commit(data, lambda: link.send(DURABLE, number))
            self._apply(data[8:])
        elif kind == COUNT:
            link.send(COUNT, len(self._items).to_bytes(8, "little"))

    def _lead(self, client: Link, data: bytes) -> None:
        self._client = client
        self._next += 1
        number = self._next.to_bytes(8, "little")
        self._puts[number] = data
        for link in self._peers.values():
            link.send(ENTRIES, number + data)
        self._log.commit(data, lambda: self._is_durable(number))

    def _answered(self, kind: bytes, data: bytes) -> None:
        assert kind == DURABLE
        self._is_durable(data)

    def _is_durable(self, number: bytes) -> None:
        count = self._durable[number] = self._durable.get(number, 0) + 1
        if count == 2:
            puts = self._puts.pop(number)
            self._apply(puts)
            assert self._client is not None
            self._client.send(ANSWER, (len(puts) // PUT_BYTES).to_bytes(4, "little"))
        elif count == HOSTS:
            del self._durable[number]

    def _apply(self, puts: bytes) -> None:
        items = self._items
        for start in range(0, len(puts), PUT_BYTES):
            items[puts[start : start + KEY_BYTES]] = puts[start + KEY_BYTES : start + PUT_BYTES]


class Client:
    """So many tasks that put one key after the other; a host is sent what waits for it when it has answered."""

    def __init__(self, links: list[Link]) -> None:
        self._links = links
        self._waiting: list[list[tuple[bytes, trio.lowlevel.Task]]] = [[] for _ in links]
        self._sent: list[list[tuple[bytes, trio.lowlevel.Task]]] = [[] for _ in links]
        self._sender: trio.lowlevel.Task | None = None
        self._number = 0
        self.times: list[float] = []
        self.ended = False
        self.put_count = 0
        self.held: list[int] = []
        """How many keys each host says that it has."""

    async def put_for_ever(self) -> None:
        while True:
            self._number += 1
            key = b"%016d" % self._number
            put = key + value_of(key)
            begun = time.perf_counter()
            self._waiting[zlib.crc32(key) % HOSTS].append((put, trio.lowlevel.current_task()))
            self._wake_sender()
            await trio.lowlevel.wait_task_rescheduled(_abandon)
            self.times.append(time.perf_counter() - begun)
            self.put_count += 1

    async def send_for_ever(self) -> None:
        while True:
            for host, link in enumerate(self._links):
                if self._waiting[host] and not self._sent[host]:
                    self._sent[host], self._waiting[host] = self._waiting[host], []
                    link.send(PUTS, b"".join([put for put, _ in self._sent[host]]))
            self._sender = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_abandon)

    def _wake_sender(self) -> None:
        if self._sender is not None and not self.ended:
            task, self._sender = self._sender, None
            trio.lowlevel.reschedule(task)

    def answered(self, host: int, kind: bytes, data: bytes) -> None:
        if kind == COUNT:
            self.held.append(int.from_bytes(data, "little"))
            return
        assert kind == ANSWER
        if self.ended:
            return  # The tasks that wait will be cancelled.
        sent, self._sent[host] = self._sent[host], []
        assert int.from_bytes(data, "little") == len(sent), "every put is answered"
        for _, task in sent:
            trio.lowlevel.reschedule(task)
        self._wake_sender()


def _abandon(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def measure(ports: list[int], in_flight: int, seconds: float) -> list[float]:
    """How long each put took, in seconds, shortest first."""
    links = [Link((await trio.open_tcp_stream("127.0.0.1", port)).socket) for port in ports]
    client = Client(links)
    async with trio.open_nursery() as nursery:
        for host, link in enumerate(links):
            nursery.start_soon(link.hear, partial(client.answered, host))
        nursery.start_soon(client.send_for_ever)
        for _ in range(in_flight):
            nursery.start_soon(client.put_for_ever)
        await trio.sleep(WARM_UP_SECONDS)
        client.times.clear()
        await trio.sleep(seconds)
        times, client.ended = sorted(client.times), True
        await trio.sleep(SETTLE_SECONDS)
        for link in links:
            link.send(COUNT, b"")
        while len(client.held) < HOSTS:
            await trio.sleep(SETTLE_SECONDS)
        assert min(client.held) >= client.put_count, f"{client.put_count} keys were put, the hosts have {client.held}"
        nursery.cancel_scope.cancel()
    return times


async def serve(number: int, ports: list[int], directory: Path) -> None:
    await Host(number, ports, directory).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.skeleton", description="What a put costs without Raft.")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        number, directory, *ports = options.host.split(",")
        trio.run(serve, int(number), [int(port) for port in ports], Path(directory))
        return 0
    ports = free_ports(HOSTS)
    with tempfile.TemporaryDirectory() as directory:
        hosts = []
        for number in range(HOSTS):
            path = Path(directory, str(number))
            path.mkdir()
            place = ",".join([str(number), str(path), *map(str, ports)])
            hosts.append(subprocess.Popen([sys.executable, "-m", "bench.skeleton", "--host", place]))
        time.sleep(1.5)
        try:
            begun = [cpu_seconds(host.pid) for host in hosts]
            times = trio.run(measure, ports, options.in_flight, options.seconds)
            spent = sum(cpu_seconds(host.pid) for host in hosts) - sum(begun)
        finally:
            for host in hosts:
                host.kill()
                host.wait()
    assert times, "no put was answered"
    rate = len(times) / options.seconds
    share = options.seconds / (options.seconds + WARM_UP_SECONDS)
    print(
        f"{options.in_flight} in flight: {rate:,.0f} puts/s, p50 {1000 * times[len(times) // 2]:.2f} ms,"
        f" {1e6 * spent * share / len(times):.0f} us of the hosts' CPU per put"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
