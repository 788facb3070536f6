"""A whole read tree in memory, and the one sequence of committed entries that it must carry."""

from __future__ import annotations

import random
from collections import deque

from shardraft.host.messages import LinkMessage
from shardraft.types import HostId, Index, ShardId, Term
from tests.learner.logs import entry
from tests.learner.process import SHARDS, Link, Process


class Tree:
    """All processes and links, and the one sequence of committed entries per shard."""

    def __init__(self, seed: int, hosts: int = 6) -> None:
        self.random = random.Random(seed)
        self.now_us = 0
        self.connections = 0
        self.committed: dict[ShardId, list[int]] = {shard: [] for shard in SHARDS}
        self.term: dict[ShardId, Term] = dict.fromkeys(SHARDS, 1)
        self.links: list[Link] = []
        self.processes = {host: Process(host, self) for host in range(1, hosts + 1)}
        self.parent_of: dict[HostId, HostId] = {2: 1, 3: 1, 4: 2, 5: 2, 6: 3}
        self.applied_before: dict[tuple[HostId, int, ShardId], int] = {}

    @property
    def voter(self) -> Process:
        return self.processes[1]

    def commit(self, shard: ShardId, count: int) -> None:
        """The voter appends, persists, commits and applies some more entries."""
        replica = self.voter.replicas[shard]
        for _ in range(count):
            payload_bytes = self.random.randint(0, 60)
            made = entry(replica.last_index + 1, self.term[shard], shard=shard, payload_bytes=payload_bytes)
            self.committed[shard].append(made.checksum)
            replica.log.append((made,))
        write = replica.log.take_write()
        if write is not None:
            self.voter.disk[shard].log += write.entries
            replica.log.persisted(write)
        self.advance(shard, replica.last_index)

    def advance(self, shard: ShardId, index: Index) -> None:
        voter = self.voter
        if index > voter.commit[shard]:
            voter.commit[shard] = index
            voter.feed.committed(shard, index)
            voter.replicas[shard].apply(index)

    def jump(self, shard: ShardId, count: int) -> None:
        """The voter, as a follower that fell behind, gets a copy: it never sees some of the entries."""
        voter, replica = self.voter, self.voter.replicas[shard]
        index = replica.last_index
        for offset in range(1, count + 1):
            self.committed[shard].append(entry(index + offset, self.term[shard], shard=shard).checksum)
        stored = voter.disk[shard]
        stored.applied, stored.applied_term = list(self.committed[shard]), self.term[shard]
        stored.reset_log()
        replica.applied = list(self.committed[shard])
        replica.log.reset(len(self.committed[shard]), self.term[shard])
        self.advance(shard, replica.last_index)

    def connect(self, host: HostId) -> None:
        child, parent = self.processes[host], self.processes[self.parent_of[host]]
        if child.link_up:
            return
        self.connections += 1
        link = Link(self.connections, child, parent)
        self.links.append(link)
        child.links[link.connection] = parent.links[link.connection] = link
        child.learner.connected(link.connection, self.now_us)

    def deliver(self, link: Link, queue: deque[tuple[LinkMessage, ...]], to: Process, doubling: float = 0.0) -> None:
        if queue and link.is_open and not link.is_stuck:
            frame = queue[0]
            if self.random.random() >= doubling:
                queue.popleft()
            to.received(link, frame)

    def tell_closed(self, link: Link) -> None:
        for process in (link.child, link.parent):
            process.closed(link.connection)
        self.links.remove(link)

    def check(self) -> None:
        """Every learner applied a prefix of what was committed, and never goes back within one life."""
        for host, process in self.processes.items():
            for shard, replica in process.replicas.items():
                applied, committed = replica.applied, self.committed[shard]
                assert applied == committed[: len(applied)], f"host {host} applied what was not committed"
                key = (host, process.incarnation, shard)
                assert len(applied) >= self.applied_before.get(key, 0), f"host {host} went back"
                self.applied_before[key] = len(applied)
                assert not process.learner.has_diverged(shard) if not process.is_voter else True
