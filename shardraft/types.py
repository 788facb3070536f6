"""Small values and names that every room may use.

Identifiers are plain integers behind type aliases: they cross the wire and index dictionaries
on the hot path. Times inside the core are integer microseconds of the host's own monotonic
clock (``*_us``); no two hosts' clocks are ever compared.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

HostId: TypeAlias = int
"""A process of the cluster, voter host or learner, unique for the life of the cluster; 1 to 2**32 - 1."""

ShardId: TypeAlias = int
"""A range of keys and the Raft group that replicates it; 0 is reserved for the meta group."""

ReplicaId: TypeAlias = int
"""A member's replica number, unique within its shard and new at each addition; 1 to 2**32 - 1."""

Term: TypeAlias = int
Index: TypeAlias = int

Revision: TypeAlias = int
"""A key's version: the shard's count of applied operations when the key was last written; 0 means absent."""

SessionId: TypeAlias = bytes
"""The random 128-bit (16 byte) identity of an exactly-once session (thesis section 6.3)."""

NO_HOST: HostId = 0
NO_REPLICA: ReplicaId = 0
NO_SHARD: ShardId = 0
META_SHARD: ShardId = 0
INTEGER_MAX = 2**64 - 1
TERM_MAX: Term = 2**62
"""Terms and indexes above this are refused at the door: no honest cluster reaches them."""


@attrs.frozen(slots=True)
class Member:
    """One voter of a shard: a replica number and the host that holds it."""

    replica: ReplicaId
    host: HostId


@attrs.frozen(slots=True)
class Membership:
    """The voters of one shard, as Raft counts them (section 6; joint consensus when ``voters_outgoing``).

    ``members`` names every replica of the configuration with its host, sorted by replica;
    ``voters``, ``voters_outgoing``, ``staging`` and ``leaving`` are sorted tuples of replica numbers.
    ``leaving`` are voters that go when those in ``staging`` become voters; until then they are
    voters like any other.
    """

    members: tuple[Member, ...]
    voters: tuple[ReplicaId, ...]
    voters_outgoing: tuple[ReplicaId, ...] = ()
    staging: tuple[ReplicaId, ...] = ()
    leaving: tuple[ReplicaId, ...] = ()

    @classmethod
    def of(cls, members: dict[ReplicaId, HostId]) -> Membership:
        """The plain configuration in which every given replica is a voter."""
        ordered = tuple(sorted(members))
        return cls(tuple(Member(replica, members[replica]) for replica in ordered), ordered)

    @property
    def is_joint(self) -> bool:
        """Whether every decision needs a majority of each half (section 6)."""
        return bool(self.voters_outgoing)

    def host_of(self, replica: ReplicaId) -> HostId:
        """The host that holds ``replica``, or ``NO_HOST`` when it is not a member."""
        for member in self.members:
            if member.replica == replica:
                return member.host
        return 0

    def replica_on(self, host: HostId) -> ReplicaId:
        """The replica that ``host`` holds, or ``NO_REPLICA``."""
        for member in self.members:
            if member.host == host:
                return member.replica
        return 0


@attrs.frozen(slots=True)
class Identity:
    """Who a data directory belongs to; stands in a file and in both environments and must agree.

    ``lineage`` is the cluster's life until a forced recovery; ``incarnation`` counts starts and
    ``boot_nonce`` tells two starts of equal incarnation apart (a restored old copy of a disk).
    """

    cluster_id: bytes
    host: HostId
    incarnation: int
    boot_nonce: int


@attrs.frozen(slots=True)
class Endpoint:
    """Where a process listens: host name or address, and TCP port."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Endpoint:
        """``HOST:PORT`` as a value; raises ``ValueError`` with what is wrong with it."""
        host, separator, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{text or 'nothing'} is not of the form HOST:PORT")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
