"""What one process of a cluster is started with: the whole of the command line, checked, as one value."""

from __future__ import annotations

from pathlib import Path

import attrs

from shardraft.config import HostConfig
from shardraft.shards.shard_map import Partitioning
from shardraft.types import Endpoint, HostId


@attrs.frozen(slots=True, kw_only=True)
class ServerOptions:
    """Everything that ``shardraft.server.app.run`` needs to know.

    ``host`` is the process's own id and ``listen`` where it accepts connections; ``advertise`` is
    what others are told instead when it is behind another address. ``peers`` names every voter
    host with which the cluster was made, itself among them; ``join`` is where a voter host that came
    later hears of the cluster, at its first start; ``parents`` is where a learner may attach, best
    first. One of the three is given. ``shards``, ``partitioning`` and
    ``cluster_token`` matter when a cluster is made and must not differ between its hosts: the
    cluster's id comes from the token. ``insecure`` allows to listen off loopback without TLS.
    ``exit_with_parent``: the process stops gracefully when its standard input ends, because that is
    the pipe which its supervisor holds; ``cli`` watches it and sends the process SIGTERM.
    """

    data_dir: Path
    host: HostId
    listen: Endpoint
    advertise: Endpoint | None = None
    peers: tuple[tuple[HostId, Endpoint], ...] = ()
    join: tuple[Endpoint, ...] = ()
    parents: tuple[Endpoint, ...] = ()
    shards: int = 8
    partitioning: Partitioning = Partitioning.HASH
    cluster_token: str = "shardraft"
    insecure: bool = False
    log_level: str = "info"
    log_format: str = "text"
    exit_with_parent: bool = False
    config: HostConfig = attrs.field(factory=HostConfig)

    @property
    def place(self) -> Endpoint:
        """Where others reach this process."""
        return self.advertise or self.listen
