"""Configurations of a group: how one follows from another, and how one is written (section 6; thesis 4).

Everything here is arithmetic on values; who may change what when is the leader's business
(``raft/reconfiguration.py``). A change that an operator asks for goes in steps, each of them one
``MEMBERSHIP`` entry::

    voters ---- replicas to add? ----> the same voters, and the new replicas staging
       |                                         |  caught up
       +------------------------------>----------+--- one voter differs ----> the voters wanted
                                                 +--- more ----> joint ---- committed ----^

*Staging* replicas receive everything and count for nothing. A joint configuration is always left as
soon as it is committed; nobody has to ask for that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

import attrs

from shardraft.errors import Conflict, InvalidArgument
from shardraft.types import NO_HOST, NO_REPLICA, HostId, Member, Membership, ReplicaId

FORMAT_VERSION: Final = 1
UNKNOWN: Final = Membership((), ())
"""What a replica that was just added knows of its group, until its leader sends it a configuration."""

_NUMBER_MAX: Final = 2**32 - 1
_COUNTS: Final = struct.Struct("<BxHHHHH")
_MEMBER: Final = struct.Struct("<II")


class MembershipError(ValueError):
    """The bytes are no configuration of this format: damaged, impossible, or of a newer version."""


@attrs.frozen(slots=True)
class MembershipChange:
    """What an operator asks for: replicas that become voters and replicas that leave, in one go.

    ``add`` are new replicas, each with a number that no replica of the shard ever had, on a host that
    holds none. ``remove`` are replica numbers. Both together replace voters without ever having fewer.
    Removing staging replicas gives up the change that brought them, all of it.
    """

    add: tuple[Member, ...] = ()
    remove: tuple[ReplicaId, ...] = ()


# One configuration from another


class EditKind(Enum):
    """What one edit does to one replica."""

    VOTE = "vote"
    """It becomes a voter."""
    STAGE = "stage"
    """It is replicated to and has no vote; a voter keeps its vote in the half that is being left."""
    REMOVE = "remove"
    """It is a member no more; in a joint step it stays one until the joint configuration is left."""


@attrs.frozen(slots=True)
class Edit:
    """One step of a configuration change. ``host`` is needed for a replica that is no member yet.

    An edit that changes nothing is no mistake: edits are idempotent.
    """

    kind: EditKind
    replica: ReplicaId
    host: HostId = NO_HOST


def simple(membership: Membership, edits: Sequence[Edit]) -> Membership:
    """The configuration after ``edits``, of which at most one may change the set of voters (thesis 4.1).

    Any majority of the one then overlaps any majority of the other. Raises ``Conflict`` when
    ``membership`` is joint, ``InvalidArgument`` when more than one voter changes or none remains.
    """
    if membership.is_joint:
        raise Conflict("the configuration is joint; it has to be left first")
    result = _edited(membership, edits)
    if len(set(result.voters) ^ set(membership.voters)) > 1:
        raise InvalidArgument("more than one voter changes, which takes a joint configuration")
    return result


def enter_joint(membership: Membership, edits: Sequence[Edit]) -> Membership:
    """The joint configuration of ``membership`` and what ``edits`` make of it (section 6).

    Raises ``Conflict`` when ``membership`` is joint already, ``InvalidArgument`` when either half
    would have no voters.
    """
    if membership.is_joint:
        raise Conflict("the configuration is joint already")
    if not membership.voters:
        raise InvalidArgument("a configuration without voters cannot be half of a joint one")
    return _edited(attrs.evolve(membership, voters_outgoing=membership.voters), edits)


def leave_joint(membership: Membership) -> Membership:
    """The incoming half alone. Raises ``Conflict`` when ``membership`` is not joint."""
    if not membership.is_joint:
        raise Conflict("the configuration is not joint")
    hosts = {member.replica: member.host for member in membership.members}
    return _configuration(hosts, set(membership.voters), (), set(membership.staging))


def _edited(membership: Membership, edits: Sequence[Edit]) -> Membership:
    hosts = {member.replica: member.host for member in membership.members}
    voters, staging = set(membership.voters), set(membership.staging)
    for edit in edits:
        if not NO_REPLICA < edit.replica <= _NUMBER_MAX:
            raise InvalidArgument(f"{edit.replica} is no replica number")
        voters.discard(edit.replica)
        staging.discard(edit.replica)
        if edit.kind is EditKind.REMOVE:
            continue
        (voters if edit.kind is EditKind.VOTE else staging).add(edit.replica)
        if hosts.setdefault(edit.replica, edit.host) == NO_HOST:
            raise InvalidArgument(f"replica {edit.replica} is no member and no host was named for it")
    if not voters:
        raise InvalidArgument("no voter would remain")
    return _configuration(hosts, voters, membership.voters_outgoing, staging)


def _configuration(
    hosts: dict[ReplicaId, HostId],
    voters: set[ReplicaId],
    voters_outgoing: tuple[ReplicaId, ...],
    staging: set[ReplicaId],
) -> Membership:
    """A configuration whose members are exactly those that have a part in it."""
    replicas = sorted(voters | set(voters_outgoing) | staging)
    members = tuple(Member(replica, hosts[replica]) for replica in replicas)
    return Membership(members, tuple(sorted(voters)), voters_outgoing, tuple(sorted(staging)))


# What an operator asks for


def begin_change(membership: Membership, change: MembershipChange, members_max: int) -> Membership:
    """The first configuration on the way to what ``change`` asks for.

    With replicas to add, these are staging, and ``leaving`` keeps in mind which voters go when they
    are promoted: so any later leader can finish the change. Raises ``InvalidArgument`` for what makes
    no sense and ``Conflict`` while another change is not finished.
    """
    if membership.is_joint:
        raise Conflict("another change of the membership is not finished")
    if membership.staging:
        return _given_up(membership, change)
    _check_change(membership, change, members_max)
    if not change.add:
        return _step(membership, [Edit(EditKind.REMOVE, replica) for replica in change.remove])
    staged = _edited(membership, [Edit(EditKind.STAGE, member.replica, member.host) for member in change.add])
    return attrs.evolve(staged, leaving=tuple(sorted(change.remove)))


def promote(membership: Membership) -> Membership:
    """What follows when the staging replicas have caught up: they get their votes, and ``leaving`` go."""
    edits = [Edit(EditKind.VOTE, replica) for replica in membership.staging]
    return _step(membership, edits + [Edit(EditKind.REMOVE, replica) for replica in membership.leaving])


def _step(membership: Membership, edits: list[Edit]) -> Membership:
    """One voter more or less takes one step, anything else goes through a joint configuration."""
    return simple(membership, edits) if len(edits) == 1 else enter_joint(membership, edits)


def _given_up(membership: Membership, change: MembershipChange) -> Membership:
    """The configuration without its staging replicas, when that is what ``change`` asks for."""
    if change.add or not change.remove or not set(change.remove) <= set(membership.staging):
        raise Conflict(f"replicas {_listed(membership.staging)} are staging; remove them to give that change up")
    return simple(membership, [Edit(EditKind.REMOVE, replica) for replica in membership.staging])


def _check_change(membership: Membership, change: MembershipChange, members_max: int) -> None:
    if not change.add and not change.remove:
        raise InvalidArgument("a change names at least one replica")
    for replica in change.remove:
        if replica not in membership.voters:
            raise InvalidArgument(f"replica {replica} is no member")
    if len(set(change.remove)) < len(change.remove):
        raise InvalidArgument("a replica to remove is named twice")
    replicas = {member.replica for member in membership.members}
    hosts = {member.host for member in membership.members}
    for member in change.add:
        if not NO_REPLICA < member.replica <= _NUMBER_MAX or not NO_HOST < member.host <= _NUMBER_MAX:
            raise InvalidArgument(f"replica {member.replica} on host {member.host}: these are no numbers of such")
        if member.replica in replicas:
            raise InvalidArgument(f"replica {member.replica} is a member already, or named twice")
        if member.host in hosts:
            raise InvalidArgument(f"host {member.host} would hold two replicas of this shard")
        replicas.add(member.replica)
        hosts.add(member.host)
    if not change.add and set(change.remove) == set(membership.voters):
        raise InvalidArgument("no voter would remain")
    if len(replicas) > members_max:
        raise InvalidArgument(f"the group would have {len(replicas)} replicas, {members_max} at most")


def _listed(replicas: Iterable[ReplicaId]) -> str:
    return ", ".join(map(str, replicas))


# The payload of a MEMBERSHIP entry


def encode_membership(membership: Membership) -> bytes:
    """The bytes of a configuration; equal configurations have equal bytes. Little-endian::

    format u8 | pad u8 | members u16 | voters u16 | voters_outgoing u16 | staging u16 | leaving u16
    | (replica u32, host u32) of each member | replica u32 of each of the others, in that order
    """
    lists = (membership.voters, membership.voters_outgoing, membership.staging, membership.leaving)
    numbers = [replica for replicas in lists for replica in replicas]
    return b"".join(
        [
            _COUNTS.pack(FORMAT_VERSION, len(membership.members), *map(len, lists)),
            *[_MEMBER.pack(member.replica, member.host) for member in membership.members],
            struct.pack(f"<{len(numbers)}I", *numbers),
        ]
    )


def decode_membership(encoded: bytes) -> Membership:
    """Read a configuration; raises ``MembershipError`` for anything that ``encode_membership`` does not write."""
    if len(encoded) < _COUNTS.size:
        raise MembershipError("a configuration is shorter than its header")
    if encoded[0] != FORMAT_VERSION:
        raise MembershipError(f"configuration format {encoded[0]} is not the one this program reads ({FORMAT_VERSION})")
    _, members, *counts = _COUNTS.unpack_from(encoded)
    end = _COUNTS.size + members * _MEMBER.size
    if len(encoded) != end + 4 * sum(counts) or encoded[1]:
        raise MembershipError("a configuration has another length than it says")
    numbers = iter(struct.unpack_from(f"<{sum(counts)}I", encoded, end))
    lists = [tuple(next(numbers) for _ in range(count)) for count in counts]
    pairs = _MEMBER.iter_unpack(encoded[_COUNTS.size : end])
    membership = Membership(tuple(Member(replica, host) for replica, host in pairs), *lists)
    _check_possible(membership)
    return membership


def _check_possible(membership: Membership) -> None:
    """Refuse what no sequence of changes leads to."""
    replicas = tuple(member.replica for member in membership.members)
    hosts = {member.host for member in membership.members}
    voters, staging = set(membership.voters), set(membership.staging)
    lists = (membership.voters, membership.voters_outgoing, membership.staging, membership.leaving)
    possible = (
        all(tuple(sorted(set(numbers))) == numbers for numbers in (replicas, *lists))
        and len(hosts) == len(replicas)
        and NO_HOST not in hosts
        and NO_REPLICA not in replicas
        and bool(voters)
        and voters.isdisjoint(staging)
        and set(replicas) == voters | set(membership.voters_outgoing) | staging
        and set(membership.leaving) <= voters
        and not (membership.leaving and (membership.is_joint or not staging))
    )
    if not possible:
        raise MembershipError("a configuration contradicts itself")
