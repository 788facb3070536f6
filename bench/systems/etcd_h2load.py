"""etcd driven natively: h2load sends the same gRPC request over and over, without Python on the client's side.

All puts are of one key and all gets of one key, since h2load has one body per run. That every put was done is seen
from etcd's revision, which each of them raises by one.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bench.harness.histogram import fold_counts
from bench.harness.keys import Keys, value_of
from bench.harness.launching import find_program, output_of
from bench.harness.ports import Client, Driven, DriverError, Servers
from bench.harness.rows import Cluster, Kind, Row
from bench.systems import etcd_messages as messages
from bench.systems.etcd import Etcd, EtcdClient, EtcdServers, etcd_version

CONNECTIONS = {Kind.PUTS: 1, Kind.GETS: 8, Kind.STALE_GETS: 8}
"""With which each was fastest."""


class H2loadDriver:
    """Runs h2load against the leader, or a follower for serializable gets."""

    def __init__(self, servers: EtcdServers, client: EtcdClient) -> None:
        self._servers = servers
        self._client = client
        self._key = Keys().take()
        self._revision = 0

    async def prepare(self, row: Row) -> None:
        await self._client.put(self._key, value_of(self._key))
        self._revision = await self._current_revision()

    async def drive(self, row: Row, seconds: float) -> Driven:
        log = self._servers.directory / "h2load.log"
        log.unlink(missing_ok=True)
        command = self._command(row, seconds, log)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output = (await process.communicate())[0].decode()
        found = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
        if process.returncode or found is None or found.group(1) != found.group(2) or int(found.group(1)) == 0:
            raise DriverError(f"h2load failed: {' '.join(output.split())[-200:]}")
        durations = Counter(int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines())
        histogram = fold_counts((microseconds / 1000, count) for microseconds, count in durations.items())
        return Driven(int(found.group(1)), seconds, histogram)

    def _command(self, row: Row, seconds: float, log: Path) -> list[str]:
        if row.kind is Kind.PUTS:
            method, message = messages.PUT, messages.put_request(self._key, value_of(self._key))
        else:
            serializable = row.kind is Kind.STALE_GETS
            method, message = messages.RANGE, messages.get_request(self._key, serializable=serializable)
        # gRPC's own frame: not compressed, then the length.
        body = self._servers.directory / "h2load.body"
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        at = self._client.follower if row.kind is Kind.STALE_GETS else self._client.leader
        connections = min(CONNECTIONS[row.kind], row.in_flight)
        program = find_program("h2load")
        assert program is not None, "a system that is missing is not run"
        command = [program, "-D", f"{round(1000 * seconds)}ms", "-c", str(connections)]
        command += ["-m", str(row.in_flight // connections), "-d", str(body), "--log-file", str(log)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        return [*command, f"http://{self._servers.endpoints[at]}{method}"]

    async def check(self, row: Row, driven: Sequence[Driven]) -> tuple[int, int]:
        wrong = int(await self._client.get(self._key) != value_of(self._key))
        operations = sum(each.operations for each in driven)
        if row.kind is Kind.PUTS:
            wrong += max(0, operations - (await self._current_revision() - self._revision))
            return operations, wrong
        return 1, wrong

    async def _current_revision(self) -> int:
        return max(status.revision for status in await self._servers.statuses() if status is not None)


class EtcdH2load(Etcd):
    """etcd, driven by h2load."""

    name = "etcd-h2load"
    offers = frozenset({Kind.PUTS, Kind.GETS, Kind.STALE_GETS})
    loop: Literal["trio", "asyncio"] = "asyncio"

    def missing(self) -> str | None:
        if find_program("h2load") is None:
            return "h2load, which drives etcd without Python, is not installed (Debian nghttp2-client)"
        return super().missing()

    def version(self) -> str:
        program = find_program("h2load")
        assert program is not None, "a system that is missing is not asked"
        return f"etcd {etcd_version()}, {output_of(program, '--version').strip()}"

    def subject(self, cluster: Cluster) -> str:
        return f"{super().subject(cluster)}, always the same key"

    def driver(self, servers: Servers, client: Client) -> H2loadDriver:
        assert isinstance(servers, EtcdServers)
        assert isinstance(client, EtcdClient)
        return H2loadDriver(servers, client)
