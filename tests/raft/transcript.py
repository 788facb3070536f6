"""Transcripts: commands to a cluster, and everything that it says in answer, as text.

A scenario is a text file of blocks separated by empty lines. Lines that begin with ``#`` explain;
then come commands, ``----``, and what they are expected to print. ``REWRITE=1`` writes the files
anew from what happens; look at every line that changes, and at why.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from shardraft.errors import ShardraftError
from shardraft.raft.entry import Entry, EntryKind
from shardraft.raft.membership import decode_membership
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import (
    BecameFollower,
    BecameLeader,
    Campaigned,
    ReadLost,
    ReadState,
    Reconfigured,
    Refused,
    TransferBegan,
    TransferGivenUp,
    Truncated,
)
from shardraft.types import Membership
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD, Copy, CopyDone, Lost, Message


def _votes(granted: bool) -> str:
    return "granted" if granted else "refused"


def show_membership(membership: Membership) -> str:
    """The halves in parentheses, and who is staging (+) or leaving (-)."""

    def listed(replicas: tuple[int, ...]) -> str:
        return f"({' '.join(map(str, replicas))})"

    text = listed(membership.voters)
    if membership.is_joint:
        text += "&&" + listed(membership.voters_outgoing)
    if membership.staging:
        text += "+" + listed(membership.staging)
    return text + ("-" + listed(membership.leaving) if membership.leaving else "")


def show_entry(entry: Entry) -> str:
    """Its index and term, and what is special about it."""
    text = f"{entry.index}/{entry.term}"
    return f"{text}:{show_membership(decode_membership(entry.payload))}" if entry.kind == EntryKind.MEMBERSHIP else text


def show_message(message: object) -> str:
    """What a message says, without its addresses."""
    match message:
        case RequestPreVote():
            return f"last={message.last_log_index}/{message.last_log_term}{' hint' if message.hint else ''}"
        case RequestVote():
            return f"last={message.last_log_index}/{message.last_log_term}{' transfer' if message.transfer else ''}"
        case RequestPreVoteReply() | RequestVoteReply():
            return _votes(message.vote_granted)
        case AppendEntries():
            entries = " ".join(map(show_entry, message.entries))
            return f"prev={message.prev_log_index}/{message.prev_log_term} commit={message.leader_commit} [{entries}]"
        case AppendEntriesReply():
            if message.success:
                return f"match={message.match_index}"
            return f"refused prev={message.match_index} agree={message.conflict_index}/{message.conflict_term}"
        case CommitAdvance():
            return f"commit={message.commit_index}"
        case Heartbeat():
            return f"round={message.round} commit={message.commit_index}"
        case HeartbeatReply():
            return f"round={message.round}"
        case Copy():
            return f"at={message.index}/{message.index_term} {show_membership(message.membership)}"
        case TimeoutNow():
            return ""
    raise AssertionError(message)


def show(replica: int, what: object) -> str:
    """One line of a transcript."""
    match what:
        case Lost(message):
            return f"{show(0, message)} (lost)"
        case Campaigned(term=term, pre_vote=pre_vote):
            return f"{replica} asks before term {term + 1}" if pre_vote else f"{replica} campaigns in term {term}"
        case BecameLeader(term=term):
            return f"{replica} leads term {term}"
        case BecameFollower(term=term, leader=leader, reason=reason):
            return f"{replica} follows {leader or 'nobody'} in term {term}: {reason}"
        case Reconfigured(index=index, membership=membership):
            return f"{replica} has configuration {show_membership(membership)} of {index}"
        case TransferBegan(target=target):
            return f"{replica} hands over to {target}"
        case TransferGivenUp(target=target):
            return f"{replica} gives up handing over to {target}"
        case Truncated(index=index):
            return f"{replica} truncates from {index}"
        case Refused(reason=reason):
            return f"{replica} refuses: {reason}"
        case ReadState(context=context, index=index):
            return f"{replica} may answer read {context} at {index}"
        case ReadLost(context=context):
            return f"{replica} lost read {context}"
        case CopyDone(index=index):
            return f"{what.from_replica}>{what.to_replica} CopyDone {'held' if index else 'not wanted'}"
    assert attrs.has(type(what))
    sender, receiver = getattr(what, "from_replica"), getattr(what, "to_replica")  # noqa: B009  (any message)
    text = f"{sender}>{receiver} {type(what).__name__} term={getattr(what, 'term')} {show_message(what)}"  # noqa: B009
    return text.rstrip()


class Scenario:
    """Carries out commands one by one."""

    def __init__(self) -> None:
        self.cluster = Cluster()

    def run(self, line: str) -> list[str]:
        """Carry out one command; everything that is said meanwhile, line by line."""
        verb, _, rest = line.partition(" ")
        command: Callable[..., list[str] | None] = getattr(self, f"do_{verb.replace('-', '_')}")
        shown = len(self.cluster.trace) if verb != "cluster" else 0
        try:
            result = command(rest)
        except ShardraftError as error:
            result = [f"{type(error).__name__}: {error}"]
        said = [show(replica, what) for replica, what in self.cluster.trace[shown:]]
        return said if result is None else result

    def do_cluster(self, rest: str) -> None:
        """cluster voters=(1 2 3) [outgoing=(2 3 4)] [preferred=(2)]"""
        halves = _lists(rest)
        (preferred,) = halves.get("preferred", (0,))
        self.cluster = Cluster(halves["voters"], voters_outgoing=halves.get("outgoing", ()), preferred=preferred)

    def do_change(self, rest: str) -> None:
        """change 1 [add=(4 5)] [remove=(1)]"""
        lists = _lists(rest)
        self.cluster.change(int(rest.split()[0]), lists.get("add", ()), lists.get("remove", ()))

    def do_transfer(self, rest: str) -> None:
        """transfer 1 [2]: 1 hands over to 2, or to whoever is best"""
        replica, *target = map(int, rest.split())
        self.cluster.raft(replica).transfer(target[0] if target else None, self.cluster.now_us)

    def do_elect(self, rest: str) -> list[str]:
        """elect 1: the whole election, without a word"""
        self.cluster.elect(int(rest))
        return []

    def do_campaign(self, rest: str) -> None:
        self.cluster.campaign(int(rest))
        self.cluster.nodes[int(rest)].take()

    def do_propose(self, rest: str) -> None:
        replica, text = rest.split(" ", 1)
        self.cluster.propose(int(replica), text)

    def do_read(self, rest: str) -> None:
        """read 1 77: a linearizable read of context 77"""
        replica, context = map(int, rest.split())
        self.cluster.raft(replica).read_index(context, self.cluster.now_us)

    def do_stabilize(self, rest: str) -> list[str] | None:
        """stabilize [quiet]"""
        self.cluster.stabilize()
        return [] if rest == "quiet" else None

    def do_turn(self, rest: str) -> None:
        """turn: readies are taken and writes finish, nothing is delivered"""
        self.cluster.turn()

    def do_take(self, rest: str) -> None:
        self.cluster.nodes[int(rest)].take()

    def do_persist(self, rest: str) -> None:
        """persist 1: the oldest write of 1 finishes"""
        self.cluster.nodes[int(rest)].persist()

    def do_pause_disk(self, rest: str) -> None:
        self.cluster.nodes[int(rest)].disk_paused = True

    def do_resume_disk(self, rest: str) -> None:
        self.cluster.nodes[int(rest)].disk_paused = False

    def do_deliver(self, rest: str) -> None:
        """deliver 1>2: everything on its way from 1 to 2"""
        for message in self._take_messages(rest):
            self.cluster.deliver(message)

    def do_drop(self, rest: str) -> list[str]:
        """drop 1>2: everything on its way from 1 to 2 is lost"""
        return [f"{show(0, message)} (lost)" for message in self._take_messages(rest)]

    def _take_messages(self, link: str) -> list[Message]:
        ends = tuple(map(int, link.split(">")))
        messages = self.cluster.messages
        taken = [message for message in messages if (message.from_replica, message.to_replica) == ends]
        self.cluster.messages = [message for message in messages if message not in taken]
        return taken

    def do_isolate(self, rest: str) -> None:
        self.cluster.isolate(int(rest))

    def do_cut(self, rest: str) -> None:
        """cut 1>2: nothing gets from 1 to 2 any more"""
        sender, receiver = map(int, rest.split(">"))
        self.cluster.cuts.add((sender, receiver))

    def do_heal(self, rest: str) -> None:
        self.cluster.heal()

    def do_restart(self, rest: str) -> None:
        """restart 1: 1 crashes, loses what was not durable, and starts again"""
        self.cluster.nodes[int(rest)].restart()

    def do_heartbeat(self, rest: str) -> None:
        """heartbeat 1: time passes until 1's next heartbeat, and all that follows from it happens"""
        self.cluster.heartbeat(int(rest))

    def do_disconnect(self, rest: str) -> None:
        """disconnect 2 1: 2 notices that its connection to 1 closed, and waits out the random hint"""
        replica, host = map(int, rest.split())
        self.cluster.disconnect(replica, host)

    def do_tick(self, rest: str) -> None:
        """tick 2: time passes until 2's next deadline"""
        raft = self.cluster.raft(int(rest))
        self.cluster.now_us = max(self.cluster.now_us, raft.deadline_us)
        raft.tick(self.cluster.now_us)

    def do_wait(self, rest: str) -> None:
        """wait 500: so many milliseconds pass, and nobody is told"""
        self.cluster.now_us += int(rest) * 1000

    def do_prepare(self, rest: str) -> None:
        """prepare 1 terms=(1 1 4) [current=5]: 1 starts from a disk with these entries"""
        found = re.fullmatch(r"(\d+) terms=\(([\d ]*)\)(?: current=(\d+))?", rest)
        assert found is not None, rest
        replica, terms, current = found.groups(default="0")
        self.cluster.prepare(int(replica), tuple(map(int, terms.split())), current_term=int(current))

    def do_timeout_now(self, rest: str) -> None:
        """timeout-now 1>2: 1 hands its leadership to 2"""
        sender, receiver = map(int, rest.split(">"))
        self.cluster.deliver(TimeoutNow(SHARD, self.cluster.raft(sender).term, sender, receiver))

    def do_compact(self, rest: str) -> None:
        """compact 1 5: 1 drops its entries up to 5"""
        replica, index = map(int, rest.split())
        self.cluster.raft(replica).compact(index)
        self.cluster.nodes[replica].disk.compact_to(index)

    def do_status(self, rest: str) -> list[str]:
        lines = []
        for replica, node in self.cluster.nodes.items():
            raft = node.raft
            terms = " ".join(map(str, self.cluster.terms(replica)))
            log = f"log from {raft.log.first_index}: ({terms}) persisted={raft.log.persisted_index}"
            lines.append(f"{replica} {raft.role.value} term={raft.term} commit={raft.commit_index} {log}")
        return lines


def _lists(text: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(map(int, ids.split())) for name, ids in re.findall(r"(\w+)=\(([\d ]*)\)", text)}


def play(text: str) -> str:
    """Carry out every command of a scenario; the scenario with what is actually said."""
    scenario = Scenario()
    blocks = []
    for block in re.split(r"\n\n+", text.strip("\n")):
        asked = block.split("\n----")[0]
        commands = [line for line in asked.splitlines() if line and not line.startswith("#")]
        said = [line for command in commands for line in scenario.run(command)]
        blocks.append("\n".join([asked, "----", *said]) if commands else asked)
    return "\n\n".join(blocks) + "\n"
