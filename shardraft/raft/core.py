"""One Raft group on one host: the caller's face of it, and its changes of role.

``Raft`` owns the term, the vote, the commit index and the log; the role object in ``state`` owns
what only its role has. ``table.HANDLERS`` says what each role does with each message.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from shardraft.config import RaftConfig
from shardraft.errors import NotLeader
from shardraft.raft.candidate import Candidate, PreCandidate
from shardraft.raft.checks import impossible
from shardraft.raft.configurations import Configurations
from shardraft.raft.contact import Contact, Place
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.follower import Follower
from shardraft.raft.group import Group
from shardraft.raft.leader import Leader
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import MembershipChange
from shardraft.raft.messages import (
    AppendEntries,
    CommitAdvance,
    Heartbeat,
    RaftMessage,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    TimeoutNow,
)
from shardraft.raft.ready import BecameFollower, BecameLeader, Campaigned, HardState, LogWrite, Ready, Role
from shardraft.raft.table import HANDLERS, STALE
from shardraft.types import NO_REPLICA, TERM_MAX, HostId, Index, Membership, ReplicaId, ShardId, Term

_NOTHING: Final = Ready()


class Raft(Group):
    """One replica of one group (the contract is in the package's docstring).

    For the caller to read: ``role``, ``term``, ``voted_for``, ``leader`` (0: unknown), ``leader_host``,
    ``commit_index``, ``membership``, ``log``, ``has_ready`` (whether ``take_ready`` may return
    anything) and ``deadline_us`` (when ``tick`` must be called at the latest). Only its own methods
    and its roles change any of it.
    """

    __slots__ = ("_handlers", "leading", "role", "state")

    state: Follower | PreCandidate | Candidate | Leader
    role: Role
    leading: Leader | None

    def __init__(
        self,
        *,
        shard: ShardId,
        replica: ReplicaId,
        membership: Membership,
        log: RaftLog,
        hard_state: HardState,
        config: RaftConfig,
        random: Random,
        now_us: int,
        time_us: int = 0,
        membership_index: Index | None = None,
        preferred: ReplicaId = NO_REPLICA,
        contact_of: Callable[[HostId], Contact] | None = None,
    ) -> None:
        """Start as a follower from what is durable: ``log`` and ``hard_state``.

        ``membership`` is the configuration as of ``membership_index``, at least ``log.first_index - 1`` and
        at most committed: that of the applied state and its ``last_applied``. The log is read from there on
        for later ones; without ``membership_index`` all of it is. A replica that was just added knows
        ``membership.UNKNOWN``. ``preferred``: the replica that should lead when it can; every member should
        be given the same. ``time_us``: the highest leader's time among entries that are compacted, as the
        applied state knows it; it matters only while the log is empty. ``contact_of``: the caller runs rounds
        between hosts, and this is its contact with each; without it the group never rests.

        Raises ``StorageError`` when a configuration in the log cannot be read.
        """
        super().__init__(
            shard=shard,
            replica=replica,
            membership=membership,
            log=log,
            hard_state=hard_state,
            config=config,
            random=random,
            now_us=now_us,
            time_us=time_us,
            membership_index=membership_index,
            preferred=preferred,
            contact_of=contact_of,
        )
        follower = Follower(self)
        self._enter(follower)
        if self.is_sole_voter:
            follower.start_early(now_us)  # There is nobody to wait for.
        elif self.is_voter and preferred == replica:
            follower.start_early(now_us + self.election_timeout_us // 2)

    # Inputs

    def step(self, message: RaftMessage, now_us: int) -> None:
        """Take a message of another replica: late, twice, out of order, or of one that cannot exist.

        What no correct replica sends has no effect but a ``Refused`` note.
        """
        self.advance(now_us)
        reason = self._misaddressed(message) or impossible(message)
        if reason is not None:
            self.refuse(reason)
        elif message.term == self.term:
            self._handlers[type(message)](self.state, message)
        elif message.term > self.term:
            self._step_later_term(message)
        else:
            STALE[type(message)](self.state, message)

    def tick(self, now_us: int) -> None:
        """Time has passed; acts when it is ``deadline_us`` or later, and is free otherwise."""
        self.advance(now_us)
        if self.now_us >= self.deadline_us:
            self.state.on_deadline()

    def propose(self, kind: EntryKind, payload: bytes, now_us: int) -> Entry:
        """Append an entry as the leader and return it.

        Its ``time_us`` goes on from the entry before it and never goes back. Raises ``NotLeader``, and
        ``Overloaded`` at ``uncommitted_bytes_max`` and during a handover; nothing was appended then.
        """
        self.advance(now_us)
        assert kind is not EntryKind.MEMBERSHIP, "the membership is changed by propose_membership"
        entry = self._lead().propose(kind, payload)
        self.has_ready = True
        return entry

    def propose_membership(self, change: MembershipChange, now_us: int) -> Entry:
        """Begin a change of the membership; the leader, or any later one, goes through with it by itself.

        Returns the entry of the first step. The change is done when ``membership_settled`` is true with
        the membership that was asked for; until replicas to add have caught up they are ``staging``.
        Raises ``NotLeader``, ``InvalidArgument`` for what makes no sense (an unknown replica, one that is
        a member already, two on one host, no voter left), and ``Conflict`` when it may not begin yet:
        another change or a handover is under way, or nothing of this term is committed.
        """
        self.advance(now_us)
        return self._lead().reconfiguration.propose(change)

    def transfer(self, replica: ReplicaId | None, now_us: int, *, keep: bool = False) -> None:
        """Hand the leadership to ``replica``, or to the best voter (thesis 3.10).

        ``keep``: the preferred replica does not take it back. Proposals are refused as ``Overloaded`` until it
        leads, or for an election timeout at most; reads go on. Raises ``NotLeader``, ``InvalidArgument`` when
        ``replica`` is no other voter, ``Conflict`` while another is under way and when no voter was heard lately.
        """
        self.advance(now_us)
        self._lead().handover.begin(replica, keep)

    @property
    def transferee(self) -> ReplicaId:
        """To whom this leader is handing over, or ``NO_REPLICA``."""
        return self.leading.handover.target if self.leading is not None else NO_REPLICA

    def prefer(self, replica: ReplicaId) -> None:
        """From this moment on ``replica`` should lead when it can (``NO_REPLICA``: anybody may)."""
        self.preferred = replica
        if self.leading is not None:
            self.leading.wake()

    def read_index(self, context: int, now_us: int) -> None:
        """Ask for a linearizable read; a ``ReadState`` or ``ReadLost`` of ``context`` answers it.

        ``now_us`` must not be before the read arrived: under a lease it is answered as of ``now_us``.
        Raises ``NotLeader``, and ``Overloaded`` at ``read_indexes_max``.
        """
        self.advance(now_us)
        self._lead().read_index(context)
        self.has_ready = True

    def peer_disconnected(self, host: HostId, now_us: int) -> None:
        """The connection to ``host`` closed: a hint when it leads, lost messages when it follows."""
        self.advance(now_us)
        if self.leading is not None:
            self.leading.disconnected(host)
        elif isinstance(self.state, Follower) and host == self.leader_host:
            self.state.leader_disconnected()

    def peer_connected(self, host: HostId, now_us: int) -> None:
        """There is a connection to ``host`` again."""
        self.advance(now_us)
        if self.leading is not None:
            self.leading.connected(host)
        elif isinstance(self.state, Follower) and host == self.leader_host:
            self.state.leader_connected()

    def rest(self, contact: Contact, place: Place, now_us: int) -> bool:
        """The leader's group rests on its host's rounds: rest too. False when this is not, durably, its follower."""
        self.advance(now_us)
        return self.state.rest_on(contact, place)

    def wake(self, now_us: int) -> None:
        """There are no rounds to rest on any more: a leader sends its own again, a follower waits for those."""
        self.advance(now_us)
        self.state.wake()

    def contact_silent(self, now_us: int) -> None:
        """A follower's contact was not heard for the shortest election timeout: its own timer matters again."""
        self.advance(now_us)
        self.state.contact_silent()

    # Outputs

    def take_ready(self) -> Ready:
        """Everything that came of the inputs since the last call, once. Nearly free when there is nothing."""
        if not self.has_ready:
            return _NOTHING
        self.has_ready = False
        if self.leading is not None:
            self.leading.send()
        return self.outbox.take(self._take_write(), self.now_us)

    def _take_write(self) -> LogWrite | None:
        """What must become durable. The commit index alone is no reason to write, it goes along."""
        taken, hard_state = self.taken_hard_state, None
        changed = self.term != taken.current_term or self.voted_for != taken.voted_for
        if changed or (self.commit_index != taken.commit_index and self.log.has_unwritten):
            self.taken_hard_state = hard_state = HardState(self.term, self.voted_for, self.commit_index)
        return self.log.take_write(hard_state)

    def persisted(self, write: LogWrite) -> None:
        """``write`` is durable. Every write is reported, in the order in which the readies were taken."""
        if self.outbox.write_persisted():
            self.has_ready = True
        self.log.persisted(write)
        if write.hard_state is not None:
            self.persisted_term = write.hard_state.current_term
        if self.leading is not None:
            self.leading.count_replicas()
        elif isinstance(self.state, Candidate) and self.term_is_persisted:
            self.state.term_persisted()

    # Compaction and snapshots

    def compact(self, index: Index) -> None:
        """Drop the log's entries up to and with ``index``; the caller guarantees that their effects are durable."""
        assert index <= self.commit_index, "only committed entries are compacted"
        if index >= self.log.last_index:
            self.time_floor_us = self.last_time_us()
        self.log.compact_to(index)
        self.configurations.compact_to(index)

    def copy_finished(self, replica: ReplicaId, index: Index | None) -> None:
        """The snapshot that ``Ready.copies_wanted`` asked for is installed at ``index``, or failed (None)."""
        if self.leading is not None:
            self.leading.copy_finished(replica, index)

    def accept_copy(self, from_replica: ReplicaId, term: Term, now_us: int) -> bool:
        """Whether a snapshot, or a part of one, comes from this term's leader; counts as hearing from it.

        Like AppendEntries (section 7): a later term is adopted, candidates step down, the election
        timer starts over. False when it is stale or impossible.
        """
        self.advance(now_us)
        if not 0 < term <= TERM_MAX or from_replica in (NO_REPLICA, self.replica):
            self.refuse(f"a snapshot of term {term} from replica {from_replica}")
            return False
        if term < self.term:
            return False
        if self.leading is not None and term == self.term:
            self.refuse(f"replica {from_replica} sends a snapshot in term {term}, which this replica leads")
            return False
        if term > self.term or not isinstance(self.state, Follower):
            self.become_follower(term, from_replica, "a snapshot of the leader arrived")
        assert isinstance(self.state, Follower)
        return self.state.hear(from_replica)

    def begin_restore(self, index: Index, term: Term) -> bool:
        """Whether a snapshot at (``index``, ``term``) should be installed; asked right before the install begins.

        False when this replica holds that entry or has committed it otherwise: resetting the log
        would forget entries that it acknowledged (section 7, rule 6). After True nothing is appended
        until ``restore`` or ``abandon_restore``.
        """
        if self.leading is not None or index <= self.commit_index or self.log.term_at(index) == term:
            return False
        self.restoring = index
        return True

    def abandon_restore(self) -> None:
        """The install that ``begin_restore`` allowed did not happen."""
        self.restoring = None

    def restore(self, index: Index, term: Term, membership: Membership, time_us: int = 0) -> None:
        """A snapshot at (``index``, ``term``) is installed and durable, and the stored log was reset there.

        The log starts anew at ``index + 1``, everything up to ``index`` is committed, and the leader is told.
        ``membership``: the configuration as of ``index``, which the snapshot holds. ``time_us``: the highest
        leader's time in the snapshot.
        """
        assert self.leading is None, "a leader needs no snapshot"
        assert index > self.commit_index, "begin_restore refuses a snapshot of what is committed here"
        assert self.log.term_at(index) != term, "begin_restore refuses a snapshot of what is held here"
        self.restoring = None
        self.time_floor_us = max(self.time_floor_us, time_us)
        self.log.reset(index, term)
        self.commit_index = index
        self.configurations = Configurations(index, membership)
        self._reconfigured()
        if self.leader != NO_REPLICA:
            self.acknowledge(self.leader, index)

    # Changes of role and configuration, for the roles

    def membership_changed(self) -> None:
        """Another configuration is in effect: the role sees to what follows from it."""
        self.state.membership_changed()

    def become_follower(self, term: Term, leader: ReplicaId, reason: str) -> None:
        """Follow ``leader`` (0: unknown) in ``term``, giving up any other role (section 5.1)."""
        assert term >= self.term, "terms never go back"
        if self.leading is not None:
            self.leading.step_down()
        if term > self.term:
            self.term = term
            self.voted_for = NO_REPLICA
        self.leader = leader
        self.keeps_office &= leader == NO_REPLICA
        self._enter(Follower(self))
        self.note(BecameFollower(self.shard, term, leader, reason))

    def become_pre_candidate(self, hint: bool) -> None:
        """Ask whether an election would be won (thesis 9.6)."""
        self.leader = NO_REPLICA
        self.note(Campaigned(self.shard, self.term, True))
        state = PreCandidate(self, hint)
        self._enter(state)
        state.ask()

    def become_candidate(self, transfer: bool) -> None:
        """Campaign in the next term (section 5.2)."""
        self.leader = NO_REPLICA
        self.term += 1
        self.voted_for = self.replica
        self.note(Campaigned(self.shard, self.term, False))
        state = Candidate(self)
        self._enter(state)
        state.campaign(transfer)

    def become_leader(self) -> None:
        """Lead the term that was won, and open it with an empty entry (section 8)."""
        assert self.role is Role.CANDIDATE, "only a candidate is elected"
        assert self.term_is_persisted, "nobody leads in a term it has not persisted"
        assert self.membership.voters, "nobody leads a group that it does not know"
        self.leader = self.replica
        state = Leader(self)
        self._enter(state)
        self.note(BecameLeader(self.shard, self.term))
        state.open_term()

    def _enter(self, state: Follower | PreCandidate | Candidate | Leader) -> None:
        if self.resting_on is not None:
            self.resting_on.left.add(self.shard)  # The leader's host hears of it with the next answer.
            self.resting_on = None
        self.state = state
        self.role = state.role
        self.leading = state if isinstance(state, Leader) else None
        self._handlers = HANDLERS[state.role]

    # Inside

    def _lead(self) -> Leader:
        if self.leading is None:
            raise NotLeader(leader=self.leader_host, shard=self.shard)
        return self.leading

    def _misaddressed(self, message: RaftMessage) -> str | None:
        """Only the address is judged: the receiver's configuration may be older than the sender's (thesis 4.1)."""
        if message.to_replica != self.replica or message.shard != self.shard:
            return f"a message for replica {message.to_replica} of shard {message.shard}"
        if message.from_replica in (NO_REPLICA, self.replica):
            return f"a message that says it is from replica {message.from_replica}"
        return None

    def _step_later_term(self, message: RaftMessage) -> None:
        """A later term ends every role, unless that would let anybody depose a live leader (thesis 4.2.3, 9.6)."""
        if isinstance(message, RequestPreVote) or (isinstance(message, RequestPreVoteReply) and message.vote_granted):
            self._handlers[type(message)](self.state, message)
            return
        heard = self.has_promised or self.state.hears_leader()
        if heard and isinstance(message, RequestVote) and not message.transfer:
            return
        leads = isinstance(message, AppendEntries | CommitAdvance | Heartbeat | TimeoutNow)
        self.become_follower(message.term, message.from_replica if leads else NO_REPLICA, "a later term was seen")
        self._handlers[type(message)](self.state, message)
