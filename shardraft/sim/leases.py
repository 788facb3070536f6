"""Whether leases exclude each other: nobody is elected while another may still answer reads from its own (PROTOCOL).

An answer that is too old shows a lease that is too long only when somebody happens to ask in those milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from shardraft.raft.ready import BecameLeader
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.process import Process
from shardraft.types import HostId


class Leases:
    """Looks at every process that leads, when another becomes leader of the same shard."""

    def __init__(self, processes: Mapping[HostId, Process]) -> None:
        self._processes = processes
        self.checked = 0
        """How many leaders that were deposed without knowing it were looked at."""

    def check_elected(self, elected: Process, note: BecameLeader) -> None:
        """``elected`` has become leader: those that led before have no lease any more, each by its own clock."""
        for process in self._processes.values():
            voter = process.host.voters.get(note.shard) if process.host is not None else None
            if process is elected or process.impersonates or voter is None:
                continue
            raft = voter.raft
            if raft.leading is None or raft.term > note.term:
                continue
            self.checked += 1
            if raft.leading.lease.holds(process.clock.now_us()):
                raise SimulationFailure(
                    f"lease: host {elected.node} leads shard {note.shard} in term {note.term}, and host"
                    f" {process.node} may answer reads from its lease of term {raft.term}"
                )
