"""What must be true after every event, checked as things happen and never by looking everything over again.

The paper's Figure 3, and the rules of PROTOCOL that a single host cannot see broken:

* *election safety*: at most one leader in a term;
* *log matching*: entries of equal index and term are equal, and so are all before them;
* *leader completeness*: a leader has every committed entry;
* *state machine safety*: what is committed at an index never differs, and replicas that applied
  equally far have equal hashes;
* *durability*: what is committed lies on the disks of a majority, in a joint configuration of one of
  each half, and no host that lacks it could be elected (``members``); a hard state never goes back;
  a vote, a candidacy or an acknowledgement leaves only when what it rests on is on the disk;
* *terms* begin with a campaign, and a voter that hears its leader helps nobody to one (``pre_votes``);
* *flushed state* equals exactly what was committed up to its last_applied (``flushed``);
* *linearizable reads* show all that any replica knew to be committed when they arrived;
* *learners* hold committed entries only, in order, without a gap.

The committed entries go to the oracle, which the clients' histories are compared with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

from shardraft.config import HostConfig
from shardraft.host.events import RequestReceived
from shardraft.host.messages import PeerMessage
from shardraft.host.replica import Replica
from shardraft.host.turn import Turn
from shardraft.host.voter import Voter
from shardraft.kv.commands import BatchCodec
from shardraft.kv.machine import MachineImage
from shardraft.kv.requests import Consistency, ReadReply, ReadRequest
from shardraft.raft.entry import Entry
from shardraft.raft.messages import AppendEntriesReply, RequestVote, RequestVoteReply
from shardraft.raft.ready import BecameLeader, Campaigned, HardState, LogWrite, Role, StateLost
from shardraft.shards.shard_map import ShardMap
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.flushed import FlushedState
from shardraft.sim.members import Members
from shardraft.sim.oracle import ShardOracle
from shardraft.sim.pre_votes import PreVotes
from shardraft.sim.process import Process
from shardraft.sim.store import KeptLog, SimStore
from shardraft.types import NO_REPLICA, HostId, Index, ReplicaId, ShardId, Term

_ENTRY_BYTES_MAX: Final = 1 << 30
_Place: TypeAlias = tuple[HostId, ShardId, ReplicaId]
"""A replica by its number, which no other one ever has: what is known of it ends with it."""


@attrs.define(slots=True)
class Counts:
    """How often each invariant was checked."""

    elections: int = 0
    entries_matched: int = 0
    commits: int = 0
    applied: int = 0
    promises: int = 0
    reads: int = 0
    hard_states: int = 0
    learner_applied: int = 0
    flushes: int = 0
    hangs: int = 0


class _Shard:
    """What is known of one shard as a whole."""

    def __init__(self, oracle: ShardOracle) -> None:
        self.oracle = oracle
        self.leaders: dict[Term, HostId] = {}
        self.written: dict[tuple[Index, Term], tuple[int, Term, Entry]] = {}
        """Every entry that ever lay on a disk: its checksum, the term before it, and itself."""
        self.committed: list[Term] = [0]
        """The term of each committed entry, by index."""
        self.commit_index: Index = 0
        """The index of the last of them."""
        self.hashes: dict[Index, int] = {}
        self.campaigned: set[Term] = set()
        """The terms that some candidate began. Only asked for membership."""


class Invariants:
    """The one owner of all that is known across hosts. Every ``check_*`` raises ``SimulationFailure``."""

    def __init__(self, shard_map: ShardMap, codec: BatchCodec, config: HostConfig) -> None:
        self.counts = Counts()
        self.stores: dict[HostId, SimStore] = {}
        election_timeout_us = 2_000 * config.raft.election_timeout_ms
        self._hang_us_max = election_timeout_us * 1_010_000 // (1_000_000 - config.raft.rho_ppm)
        """A write that takes longer hangs, whatever a clock that drifts shows."""
        self._office_us_max = self._hang_us_max + 2_500 * config.raft.heartbeat_ms
        self._shards = {shard.shard: _Shard(ShardOracle(codec, config.limits)) for shard in shard_map.shards}
        self.members = Members(shard_map, self.stores)
        self._hard_states: dict[_Place, HardState] = {}
        self._seen: defaultdict[HostId, dict[ShardId, tuple[Index, Index]]] = defaultdict(dict)
        """By host and shard: commit index and applied index as they were looked at last."""
        self._reads: dict[tuple[HostId, int, int], Index] = {}
        """By host, connection and request id of a waiting linearizable read: the index that its answer must show."""
        self.flushed = FlushedState(self.stores, self.oracle)
        self.pre_votes = PreVotes()

    def oracle(self, shard: ShardId) -> ShardOracle:
        """The committed history of ``shard``."""
        return self._shards[shard].oracle

    def commit_index(self, shard: ShardId) -> Index:
        """The highest index known to be committed by any replica."""
        return self._shards[shard].commit_index

    def _place(self, host: HostId, shard: ShardId) -> _Place:
        return host, shard, self.stores[host].replicas.get(shard, NO_REPLICA)

    # What lies on disks.

    def check_written(self, host: HostId, write: LogWrite, *, is_learner: bool) -> None:
        """One shard's write just took effect on the disk of ``host``."""
        if not is_learner:
            self._check_hard_state(host, write)
        if write.entries:
            self._check_matching(host, write)

    def _check_hard_state(self, host: HostId, write: LogWrite) -> None:
        state = write.hard_state
        if state is None:
            return
        self.counts.hard_states += 1
        place = self._place(host, write.shard)
        before = self._hard_states.get(place, _NO_HARD_STATE)
        self._hard_states[place] = state
        goes_back = state.current_term < before.current_term or state.commit_index < before.commit_index
        votes_twice = state.current_term == before.current_term and before.voted_for not in (0, state.voted_for)
        if goes_back or votes_twice:
            raise SimulationFailure(f"host {host}, shard {write.shard}: the hard state went from {before} to {state}")
        if state.current_term > before.current_term and state.current_term not in self._shards[write.shard].campaigned:
            raise SimulationFailure(
                f"host {host}, shard {write.shard}: is in term {state.current_term}, which nobody campaigned in"
            )

    def _check_matching(self, host: HostId, write: LogWrite) -> None:
        written = self._shards[write.shard].written
        first = write.entries[0].index
        before = self.stores[host].logs[write.shard].term_at(first - 1)
        for entry in write.entries:
            at, checksum = (entry.index, entry.term), entry.checksum
            known = written.get(at)
            if known is None:
                written[at] = (checksum, -1 if before is None else before, entry)
                self.members.written(write.shard, entry)
            elif known[0] != checksum or (before is not None and known[1] not in (-1, before)):
                raise SimulationFailure(
                    f"log matching: host {host}, shard {write.shard}: {entry!r} after term {before} lies elsewhere"
                    " with other bytes or after another entry"
                )
            before = entry.term
        self.counts.entries_matched += len(write.entries)

    def check_recovered(self, host: HostId, *, is_learner: bool) -> None:
        """A process starts from its disk: no vote and no term may be missing that ever was durable."""
        self._seen[host].clear()
        for shard, log in self.stores[host].logs.items():
            if shard not in self.stores[host].states:
                continue  # The process ended in the middle of a removal.
            place = self._place(host, shard)
            self.flushed.check_all(host, shard)
            if is_learner:
                continue
            before = self._hard_states.get(place, _NO_HARD_STATE)
            state = log.hard_state
            if (state.current_term, state.voted_for) != (before.current_term, before.voted_for):
                raise SimulationFailure(f"host {host}, shard {shard}: recovered {state}, which was {before}")
            self._hard_states[place] = state

    def replica_created(self, host: HostId, shard: ShardId) -> None:
        """A new replica begins from nothing."""
        self._seen[host].pop(shard, None)

    def check_flushed(self, host: HostId, image: MachineImage) -> None:
        """One shard's part of a flush just took effect on the disk of ``host``."""
        self.counts.flushes += 1
        self.flushed.check_flush(host, image)

    # What clients ask of a host.

    def note_request(self, host: HostId, event: RequestReceived) -> None:
        """A request arrives. A linearizable read must show what is known to be committed at this moment."""
        request = event.request
        if isinstance(request, ReadRequest) and request.consistency is Consistency.LINEARIZABLE:
            self._reads[host, event.connection, request.request_id] = self._shards[request.shard].commit_index

    def check_replies(self, process: Process, turn: Turn) -> None:
        """Answers leave: those of linearizable reads must come from a state that is new enough."""
        for connection, replies in turn.replies:
            for reply in replies:
                index_min = self._reads.pop((process.node, connection, reply.request_id), None)
                if index_min is None or not isinstance(reply, ReadReply):
                    continue
                self.counts.reads += 1
                if reply.applied_index < index_min:
                    raise SimulationFailure(
                        f"linearizable read: host {process.node} answers from index {reply.applied_index},"
                        f" and {index_min} was committed when the read arrived"
                    )

    # What leaves a host.

    def check_promises(self, host: HostId, messages: Iterable[PeerMessage]) -> None:
        """Nothing is promised before it is persisted (PROTOCOL, "Terms, votes, turns in flight")."""
        logs = self.stores[host].logs
        for message in messages:
            if not isinstance(message, _PROMISING) or message.shard not in logs:
                continue  # What a replica promised that is removed by now, no group counts on.
            if not _is_kept(message, logs[message.shard]):
                raise SimulationFailure(f"host {host} promised what is not on its disk: {message!r}")
            self.counts.promises += 1

    # What hosts know.

    def check_turn(self, process: Process, turn: Turn) -> None:
        """What the host says in a turn: who leads, and how far each replica is."""
        for note in turn.notes:
            if type(note) is BecameLeader:
                self._check_election(process, note)
            elif type(note) is Campaigned and not note.pre_vote:
                self._shards[note.shard].campaigned.add(note.term)
            elif type(note) is StateLost:
                raise SimulationFailure(f"host {process.node} runs from its newest disk and says {note!r}")
        asked = self.pre_votes.asked
        for _, messages in turn.messages:
            self.check_promises(process.node, messages)
            if asked:
                self.pre_votes.check(process.node, messages)
        if asked:
            self.pre_votes.turn_ended()
        if turn.replies:
            self.check_replies(process, turn)

    def check_hung(self, process: Process, turn: Turn, now_us: int) -> None:
        """With a disk that hangs for longer than an election timeout nobody leads or campaigns (PROTOCOL)."""
        since_us = process.disk.log_at_work_since_us
        if process.host is None or since_us is None or now_us - since_us <= self._hang_us_max:
            return
        self.counts.hangs += 1
        campaigned = {note.shard for note in turn.notes if type(note) is Campaigned}
        for shard, voter in sorted(process.host.voters.items()):
            leads = voter.raft.role is Role.LEADER and now_us - since_us > self._office_us_max
            if leads or shard in campaigned:
                raise SimulationFailure(
                    f"host {process.node} {'leads' if leads else 'campaigns for'} shard {shard}, and its disk has been"
                    f" hanging for {(now_us - since_us) // 1000} ms"
                )

    def check_replicas(self, process: Process) -> None:
        """After a turn: commit index and applied state of every replica here."""
        host = process.host
        if host is None:
            return
        before = self._seen[process.node]
        for shard, replica in host.replicas.items():
            now = replica.commit_index, replica.machine.last_applied
            if before.get(shard) != now:
                self._check_replica(process, replica, now)

    def _check_replica(self, process: Process, replica: Replica, seen: tuple[Index, Index]) -> None:
        all_seen = self._seen[process.node]
        before = all_seen.get(replica.shard, (0, 0))
        all_seen[replica.shard] = seen
        if seen < before or seen[1] < before[1]:
            raise SimulationFailure(
                f"host {process.node}, shard {replica.shard}: commit and applied index went from {before} to {seen}"
            )
        if isinstance(replica, Voter):
            if replica.raft.role is Role.LEADER:
                self._note_leader(process.node, replica.shard, replica.raft.term)
            if seen[0] > before[0]:
                self._check_committed(process, replica)
        elif seen[0] > before[0]:
            self._check_learner_log(process, replica)
        if seen[1] > before[1]:
            self._check_applied(process, replica)

    def _note_leader(self, host: HostId, shard: ShardId, term: Term) -> None:
        leader = self._shards[shard].leaders.setdefault(term, host)
        if leader != host:
            raise SimulationFailure(
                f"election safety: hosts {leader} and {host} both lead shard {shard} in term {term}"
            )

    def _check_election(self, process: Process, note: BecameLeader) -> None:
        self.counts.elections += 1
        self._note_leader(process.node, note.shard, note.term)
        assert process.host is not None
        log, shard = process.host.voters[note.shard].log, self._shards[note.shard]
        index = shard.commit_index
        if log.first_index <= index + 1 and log.term_at(index) != shard.committed[index]:
            raise SimulationFailure(
                f"leader completeness: host {process.node} leads shard {note.shard} in term {note.term} without"
                f" the committed entry {index}"
            )

    def _check_committed(self, process: Process, voter: Voter) -> None:
        shard, log, index = self._shards[voter.shard], voter.log, voter.commit_index
        self.counts.commits += 1
        if index <= shard.commit_index:
            if log.first_index <= index + 1 and log.term_at(index) != shard.committed[index]:
                raise SimulationFailure(
                    f"state machine safety: host {process.node}, shard {voter.shard}: entry {index} is committed"
                    f" with term {log.term_at(index)}, elsewhere with {shard.committed[index]}"
                )
            self.members.check_configuration(process.node, voter, index)
            return
        self.members.check_majority(process.node, voter, index)
        while shard.commit_index < index:
            following = shard.commit_index + 1
            term = log.term_at(following)
            assert term is not None, "an entry is compacted before anybody knew it to be committed"
            shard.committed.append(term)
            shard.commit_index = following
            entry = shard.written[following, term][2]
            shard.oracle.apply(entry)
            self.members.apply(voter.shard, entry)
        self.members.check_configuration(process.node, voter, index)

    def _check_learner_log(self, process: Process, replica: Replica) -> None:
        shard, log, index = self._shards[replica.shard], replica.log, replica.commit_index
        self.counts.commits += 1
        if index > shard.commit_index or (
            log.first_index <= index + 1 and log.term_at(index) != shard.committed[index]
        ):
            raise SimulationFailure(
                f"learner {process.node}, shard {replica.shard}: holds entry {index} of term {log.term_at(index)},"
                f" which is not the committed one (committed up to {shard.commit_index})"
            )

    def _check_applied(self, process: Process, replica: Replica) -> None:
        shard, machine = self._shards[replica.shard], replica.machine
        index = machine.last_applied
        if isinstance(replica, Voter):
            self.counts.applied += 1
        else:
            self.counts.learner_applied += 1
        if index > shard.commit_index or index > replica.commit_index:
            raise SimulationFailure(
                f"host {process.node}, shard {replica.shard}: applied {index}, committed is {shard.commit_index}"
            )
        known = shard.hashes.setdefault(index, machine.applied_hash)
        if known != machine.applied_hash:
            raise SimulationFailure(
                f"state machine safety: host {process.node}, shard {replica.shard}: another hash of what is applied"
                f" up to {index} than elsewhere"
            )
        if index == shard.commit_index and machine.revision != shard.oracle.revision:
            raise SimulationFailure(
                f"host {process.node}, shard {replica.shard}: at {index} its revision is {machine.revision},"
                f" and {shard.oracle.revision} operations were committed"
            )

    # At the end.

    def check_contents(self, process: Process) -> int:
        """Every replica of the process that is caught up holds exactly what was committed; how many those were."""
        assert process.host is not None
        compared = 0
        for shard, replica in process.host.replicas.items():
            oracle = self._shards[shard].oracle
            if replica.machine.last_applied != oracle.applied_index:
                continue
            found, more = replica.machine.scan(b"", b"", len(oracle.items) + 1, _ENTRY_BYTES_MAX)
            if more or [(key, stored.revision, stored.value) for key, stored in found] != list(oracle.ordered()):
                raise SimulationFailure(f"host {process.node}, shard {shard}: its keys are not those committed")
            compared += 1
        return compared


_NO_HARD_STATE: Final = HardState()
_PROMISING: Final = (AppendEntriesReply, RequestVoteReply, RequestVote)


def _is_kept(message: AppendEntriesReply | RequestVoteReply | RequestVote, log: KeptLog) -> bool:
    """Does what ``message`` rests on lie on the disk? A later term there means that its time has passed."""
    state = log.hard_state
    term = message.term
    if state.current_term > term:
        return True
    if isinstance(message, AppendEntriesReply):
        return not message.success or (state.current_term == term and message.match_index <= log.last_index)
    if isinstance(message, RequestVoteReply):
        return not message.vote_granted or (state.current_term, state.voted_for) == (term, message.to_replica)
    return (state.current_term, state.voted_for) == (term, message.from_replica)
