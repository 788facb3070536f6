"""NATS JetStream: a key-value bucket with three copies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bench.harness.launching import LOOPBACK, Processes, find_program, free_ports, output_of
from bench.harness.ports import Servers
from bench.harness.rows import Cluster, Kind
from bench.systems.unoffered import NothingOffered

BUCKET = "bench"
POLL_SECONDS = 0.2
_CONFIGURATION = """
server_name: "{name}"
listen: "{client}"
jetstream {{ store_dir: "{store}" }}
cluster {{ name: "bench", listen: "{route}", routes: [{routes}] }}
"""


class NatsServers(Processes):
    """Servers ``nats-N``, each knowing all routes."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        super().__init__(directory)
        ports = free_ports(2 * cluster.members)
        self.members = cluster.members
        self.urls = [f"nats://{LOOPBACK}:{port}" for port in ports[: cluster.members]]
        routes = ", ".join(f'"nats://{LOOPBACK}:{port}"' for port in ports[cluster.members :])
        program = find_program("nats-server")
        assert program is not None, "a system that is missing is not started"
        for number in range(cluster.members):
            name = f"nats-{number}"
            configuration = directory / f"{name}.conf"
            client, route = (f"{LOOPBACK}:{ports[place]}" for place in (number, cluster.members + number))
            store = directory / f"{name}.data"
            configuration.write_text(
                _CONFIGURATION.format(name=name, client=client, route=route, routes=routes, store=store)
            )
            self.start(name, [program, "-c", str(configuration)])


class NatsClient(NothingOffered):
    """nats-py's key-value view of the bucket."""

    def __init__(self, connection: Any, bucket: Any) -> None:
        self._connection = connection
        self._bucket = bucket

    async def put(self, key: bytes, value: bytes) -> None:
        await self._bucket.put(key.decode(), value)

    async def stale_get(self, key: bytes) -> bytes | None:
        from nats.js.errors import KeyNotFoundError

        try:
            value: bytes | None = (await self._bucket.get(key.decode())).value
        except KeyNotFoundError:
            return None
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(await asyncio.gather(*map(self.stale_get, keys)))

    async def close(self) -> None:
        await self._connection.close()


class Nats:
    """NATS JetStream, whichever version is installed."""

    name = "nats"
    offers = frozenset({Kind.PUTS, Kind.STALE_GETS, Kind.IDLE, Kind.MEMORY})
    loop: Literal["trio", "asyncio"] = "asyncio"
    is_ordered = False
    promise = "written on a majority, no fsync"
    promise_in_full = (
        "A write is acknowledged once a majority of the servers have handed it to their operating systems; they "
        "fsync every two minutes by default (sync_interval), so a power failure of several machines loses acknowledged "
        "writes."
    )

    def missing(self) -> str | None:
        if find_program("nats-server") is None:
            return "nats-server is not installed (Debian nats-server)"
        if find_spec("nats") is None:
            return "nats-py, which NATS is driven with, is not installed"
        return None

    def version(self) -> str:
        from importlib.metadata import version

        program = find_program("nats-server")
        assert program is not None, "a system that is missing is not asked"
        found = re.search(r"v(\d\S+)", output_of(program, "--version"))
        return f"NATS {found.group(1) if found else 'of unknown version'}, nats-py {version('nats-py')}"

    def subject(self, cluster: Cluster) -> str:
        return f"{cluster.members} servers, bucket of {cluster.members} copies"

    def start(self, directory: Path, cluster: Cluster) -> Servers:
        return NatsServers(directory, cluster)

    async def connect(self, servers: Servers) -> NatsClient:
        assert isinstance(servers, NatsServers)
        import nats
        from nats.errors import Error
        from nats.js.api import KeyValueConfig

        while True:
            servers.check()
            try:
                connection = await nats.connect(servers=servers.urls, allow_reconnect=False, connect_timeout=2)
            except (Error, OSError):
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                config = KeyValueConfig(bucket=BUCKET, replicas=servers.members, history=1)
                bucket = await connection.jetstream(timeout=30).create_key_value(config)
                await bucket.put("ready", b"")
                return NatsClient(connection, bucket)
            except Error:
                await connection.close()
                await asyncio.sleep(POLL_SECONDS)
