"""The fake cluster behind real sockets, speaking the real wire protocol on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream

from shardraft.errors import ShardraftError
from shardraft.kv.requests import ClientRequest, ErrorReply, WriteRequest
from shardraft.types import HostId
from shardraft.wire.client import CapnpBatchCodec, decode_request, encode_reply
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.hello import HelloReply, decode_hello, encode_hello_reply
from tests.router.cluster import CLUSTER_ID, FakeCluster


class FakeServer:
    """Serves a ``FakeCluster``; the hooks say what goes wrong.

    ``lose_reply``: the request is carried out, then the connection closes instead of answering. ``silent``: it is
    carried out and nothing happens.
    ``closed``: endpoints that accept connections and close them at once. While ``answering`` is not set,
    requests are carried out and their replies wait; ``arrived`` counts requests.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.lose_reply: Callable[[str, ClientRequest], bool] = lambda endpoint, request: False
        self.silent: Callable[[str, ClientRequest], bool] = lambda endpoint, request: False
        self.instead: Callable[[str, ClientRequest], bytes | None] = lambda endpoint, request: None
        """Bytes to send instead of a reply."""
        self.closed: set[str] = set()
        self.requests: list[tuple[str, ClientRequest]] = []
        self.answering = anyio.Event()
        self.answering.set()
        self.cluster_id = CLUSTER_ID
        self._open = 0
        self._open_changed = anyio.Event()
        self._waiting: list[tuple[type[ClientRequest], int, anyio.Event]] = []

    def hold(self) -> None:
        """Let replies wait until ``release``."""
        self.answering = anyio.Event()

    def refuse_writes(self, shard: int, error: ShardraftError) -> None:
        """Answer writes to ``shard`` with ``error``, whatever came of them."""

        def refuse(endpoint: str, request: ClientRequest) -> bytes | None:
            is_one = isinstance(request, WriteRequest) and request.shard == shard
            return encode_reply(ErrorReply(request.request_id, error)) if is_one else None

        self.instead = refuse

    def release(self) -> None:
        self.answering.set()

    async def seen(self, kind: type[ClientRequest], count: int = 1) -> None:
        """Wait until that many requests of that kind have arrived, from the start of the server."""
        if self._count(kind) < count:
            reached = anyio.Event()
            self._waiting.append((kind, count, reached))
            await reached.wait()

    def _count(self, kind: type[ClientRequest]) -> int:
        return sum(isinstance(request, kind) for _, request in self.requests)

    @property
    def endpoints(self) -> list[str]:
        return [place.endpoint for place in self.cluster.shard_map.hosts]

    async def connections(self, count: int) -> None:
        """Wait until that many connections are open."""
        while self._open != count:
            await self._open_changed.wait()

    def _count_connection(self, change: int) -> None:
        self._open += change
        self._open_changed.set()
        self._open_changed = anyio.Event()

    async def handle(self, endpoint: str, stream: SocketStream) -> None:
        """Serve one connection until it closes."""
        self._count_connection(1)
        try:
            async with stream:
                if endpoint not in self.closed:
                    await self._serve(endpoint, stream)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        finally:
            self._count_connection(-1)

    async def _serve(self, endpoint: str, stream: SocketStream) -> None:
        decoder = FrameDecoder(16 << 20)
        frames: list[bytes] = []
        while not frames:
            frames = decoder.feed(await stream.receive())
        decode_hello(frames.pop(0))
        host, tier = self.cluster.host_of(endpoint)
        await stream.send(encode_hello_reply(HelloReply(cluster_id=self.cluster_id, host=host, tier=tier)))
        while True:
            for frame in frames:
                request = decode_request(frame)
                reply = self.cluster.answer(endpoint, request)
                lost, silent = self.lose_reply(endpoint, request), self.silent(endpoint, request)
                self._note(endpoint, request)
                if lost:
                    return
                await self.answering.wait()
                if not silent:
                    await stream.send(self.instead(endpoint, request) or encode_reply(reply))
            frames = decoder.feed(await stream.receive(1 << 18))

    def _note(self, endpoint: str, request: ClientRequest) -> None:
        self.requests.append((endpoint, request))
        for kind, count, reached in self._waiting:
            if self._count(kind) >= count:
                reached.set()


@asynccontextmanager
async def serving(
    *, hosts: int = 3, shards: int = 4, learners: dict[HostId, int] | None = None
) -> AsyncIterator[FakeServer]:
    """A cluster of that shape, listening."""
    names = [("host", number) for number in range(1, hosts + 1)] + [("learner", host) for host in learners or {}]
    listeners = {name: await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) for name in names}
    places = {name: f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}" for name, listener in listeners.items()}
    cluster = FakeCluster(
        shards=shards,
        learners=learners,
        codec=CapnpBatchCodec(),
        places={number: place for (kind, number), place in places.items() if kind == "host"},
        learner_places={number: place for (kind, number), place in places.items() if kind == "learner"},
    )
    server = FakeServer(cluster)
    async with anyio.create_task_group() as tasks:
        for name, listener in listeners.items():

            async def serve_one(stream: SocketStream, endpoint: str = places[name]) -> None:
                await server.handle(endpoint, stream)

            tasks.start_soon(listener.serve, serve_one)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()
    for listener in listeners.values():
        await listener.aclose()
