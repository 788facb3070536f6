"""Who may be told that it would win an election: nobody by a voter that hears its leader (thesis 4.2.3, 9.6).

PROTOCOL, "Terms, votes, turns in flight": a closed connection lets a follower ask early, and a voter that
still hears the leader refuses, hint or not. A healthy leader would be deposed otherwise, and no other check
would mind.
"""

from __future__ import annotations

from collections.abc import Iterable

from shardraft.host.events import PeerFrameReceived
from shardraft.host.host import Host
from shardraft.host.messages import PeerMessage
from shardraft.raft.messages import RequestPreVote, RequestPreVoteReply
from shardraft.sim.failure import SimulationFailure
from shardraft.types import HostId, ReplicaId, ShardId


class PreVotes:
    """The questions that the host whose turn it is took in, and whether it heard the leader at each."""

    def __init__(self) -> None:
        self.asked: dict[tuple[ShardId, ReplicaId], bool] = {}
        """By shard and asker: whether it heard the leader. A question may come twice in a turn: True means at both."""

    def taken(self, host: Host, event: PeerFrameReceived) -> None:
        """A frame is about to be stepped."""
        for message in event.messages:
            if type(message) is RequestPreVote and message.shard in host.voters:
                raft = host.voters[message.shard].raft
                raft.advance(event.now_us)
                asked = message.shard, message.from_replica
                self.asked[asked] = raft.state.hears_leader() and self.asked.get(asked, True)

    def check(self, host: HostId, messages: Iterable[PeerMessage]) -> None:
        """Answers leave. Raises ``SimulationFailure``."""
        for message in messages:
            if type(message) is not RequestPreVoteReply or not message.vote_granted:
                continue
            if self.asked.get((message.shard, message.to_replica)):
                raise SimulationFailure(
                    f"host {host}, shard {message.shard}: grants replica {message.to_replica} a pre-vote while it"
                    " hears its leader"
                )

    def turn_ended(self) -> None:
        """The next host's turn comes."""
        self.asked.clear()
