"""The arithmetic of configurations and their bytes (section 6; thesis 4). See also ``tests/conformance``."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardraft.errors import Conflict, InvalidArgument
from shardraft.raft.membership import (
    UNKNOWN,
    Edit,
    EditKind,
    MembershipChange,
    MembershipError,
    begin_change,
    decode_membership,
    encode_membership,
    enter_joint,
    leave_joint,
    promote,
    simple,
)
from shardraft.types import Member, Membership
from tests.raft.law import check_step

MEMBERS_MAX = 32


def group(*replicas: int) -> Membership:
    """Replica n is on host n + 100."""
    return Membership.of({replica: replica + 100 for replica in replicas})


def change(add: tuple[int, ...] = (), remove: tuple[int, ...] = ()) -> MembershipChange:
    return MembershipChange(tuple(Member(replica, replica + 100) for replica in add), remove)


def steps(membership: Membership, asked: MembershipChange) -> list[Membership]:
    """Every configuration on the way, when nothing goes wrong."""
    way = [begin_change(membership, asked, MEMBERS_MAX)]
    while way[-1].staging or way[-1].is_joint:
        way.append(leave_joint(way[-1]) if way[-1].is_joint else promote(way[-1]))
    return way


# What an operator asks for


def test_a_new_replica_is_staging_before_it_is_a_voter() -> None:
    """Thesis 4.2.1; one voter more is one step."""
    staging, voter = steps(group(1, 2, 3), change(add=(4,)))
    assert (staging.voters, staging.staging, staging.host_of(4)) == ((1, 2, 3), (4,), 104)
    assert voter == group(1, 2, 3, 4)


def test_one_voter_less_is_one_step() -> None:
    """Thesis 4.1: any two majorities overlap."""
    assert steps(group(1, 2, 3), change(remove=(2,))) == [group(1, 3)]


def test_two_voters_less_go_through_a_joint_configuration() -> None:
    """Section 6."""
    joint, left = steps(group(1, 2, 3, 4, 5), change(remove=(1, 4)))
    assert (joint.voters, joint.voters_outgoing, len(joint.members)) == ((2, 3, 5), (1, 2, 3, 4, 5), 5)
    assert left == group(2, 3, 5)


def test_a_replacement_never_has_fewer_voters_and_any_leader_can_finish_it() -> None:
    """What is to leave is kept in the configuration itself while the new ones catch up."""
    staging, joint, left = steps(group(1, 2, 3), change(add=(4, 5), remove=(1, 2)))
    assert (staging.voters, staging.staging, staging.leaving) == ((1, 2, 3), (4, 5), (1, 2))
    assert (joint.voters, joint.voters_outgoing, joint.staging, joint.leaving) == ((3, 4, 5), (1, 2, 3), (), ())
    assert left == group(3, 4, 5)


def test_the_only_voter_can_be_replaced() -> None:
    assert steps(group(1), change(add=(2,), remove=(1,)))[-1] == group(2)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (change(), "at least one"),
        (change(remove=(9,)), "replica 9 is no member"),
        (change(remove=(1, 1)), "named twice"),
        (change(remove=(1, 2, 3)), "no voter would remain"),
        (change(add=(3,)), "replica 3 is a member already"),
        (change(add=(4, 4)), "named twice"),
        (change(add=(1,), remove=(1,)), "a member already"),
        (MembershipChange((Member(4, 101),)), "host 101 would hold two"),
        (MembershipChange((Member(4, 101),), (1,)), "host 101 would hold two"),
        (MembershipChange((Member(4, 7), Member(5, 7))), "host 7 would hold two"),
        (MembershipChange((Member(0, 7),)), "no numbers"),
        (MembershipChange((Member(4, 0),)), "no numbers"),
        (MembershipChange((Member(2**32, 7),)), "no numbers"),
        (MembershipChange((Member(4, -1),)), "no numbers"),
        (change(add=tuple(range(4, 34))), "33 replicas, 32 at most"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: MembershipChange, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        begin_change(group(1, 2, 3), asked, MEMBERS_MAX)


def test_as_many_members_as_the_limit_says_are_fine() -> None:
    """``members_max``."""
    assert len(begin_change(group(1, 2, 3), change(add=tuple(range(4, 33))), MEMBERS_MAX).members) == 32


def test_nothing_is_changed_while_another_change_is_not_finished() -> None:
    staging, joint, _ = steps(group(1, 2, 3), change(add=(4,), remove=(1,)))
    for unfinished in (staging, joint):
        for asked in (change(add=(5,)), change(remove=(2,)), change(add=(5,), remove=(4,)), change()):
            with pytest.raises(Conflict):
                begin_change(unfinished, asked, MEMBERS_MAX)


def test_removing_a_staging_replica_gives_up_all_of_the_change_that_brought_it() -> None:
    """Else a replica that never catches up would stand in the way for ever."""
    staging = begin_change(group(1, 2, 3), change(add=(4, 5), remove=(1,)), MEMBERS_MAX)
    assert begin_change(staging, change(remove=(5,)), MEMBERS_MAX) == group(1, 2, 3)


# Steps


def test_two_voters_cannot_change_in_one_step() -> None:
    with pytest.raises(InvalidArgument, match="joint"):
        simple(group(1, 2, 3), [Edit(EditKind.REMOVE, 1), Edit(EditKind.VOTE, 4, 104)])


def test_a_voter_may_become_staging_and_keeps_its_vote_in_the_half_that_is_left() -> None:
    """etcd-io/raft's ``learners_next``."""
    joint = enter_joint(group(1, 2), [Edit(EditKind.STAGE, 1), Edit(EditKind.VOTE, 3, 103)])
    assert (joint.voters, joint.voters_outgoing, joint.staging) == ((2, 3), (1, 2), (1,))
    assert leave_joint(joint) == Membership(joint.members, (2, 3), (), (1,))


def test_a_replica_that_is_no_member_needs_a_host() -> None:
    with pytest.raises(InvalidArgument, match="no host"):
        simple(group(1), [Edit(EditKind.STAGE, 2)])


replicas = st.integers(1, 9)
hosts = st.lists(replicas, max_size=4, unique=True)


@given(voters=st.sets(replicas, min_size=1, max_size=6), add=hosts, remove=hosts)
def test_every_change_that_is_taken_leads_to_what_was_asked_for_in_safe_steps(
    voters: set[int], add: list[int], remove: list[int]
) -> None:
    """Section 6: no two neighbours have majorities that do not overlap."""
    membership = group(*voters)
    asked = change(tuple(add), tuple(remove))
    try:
        way = steps(membership, asked)
    except InvalidArgument:
        makes_sense = set(remove) <= voters and voters.isdisjoint(add) and (add or remove)
        assert not makes_sense or not (voters | set(add)) - set(remove)
        return
    assert way[-1] == group(*((voters | set(add)) - set(remove)))
    for before, after in zip([membership, *way], way, strict=False):
        check_step(before, after)
        assert decode_membership(encode_membership(after)) == after


# Bytes


def test_the_bytes_of_a_configuration_are_these() -> None:
    """They lie in logs: a change of this test is a change of format."""
    joint = Membership((Member(1, 11), Member(2, 12)), (2,), (1, 2))
    assert encode_membership(joint).hex() == (
        "0100" + "02000100020000000000" + "010000000b000000" + "020000000c000000" + "02000000" + "0100000002000000"
    )
    assert decode_membership(encode_membership(joint)) == joint


def test_a_newer_format_is_refused_in_a_sentence() -> None:
    with pytest.raises(MembershipError, match="format 2 is not the one this program reads"):
        decode_membership(b"\x02" + encode_membership(group(1))[1:])


@given(st.binary(max_size=80))
def test_any_other_bytes_are_refused(noise: bytes) -> None:
    try:
        found = decode_membership(noise)
    except MembershipError:
        return
    assert encode_membership(found) == noise


@given(at=st.integers(0, 59), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_gives_another_configuration(at: int, value: int) -> None:
    """The entry's checksum finds damage; this is about what a hostile leader may write."""
    encoded = bytearray(encode_membership(begin_change(group(1, 2, 3), change(add=(4,), remove=(1,)), MEMBERS_MAX)))
    assert len(encoded) == 64
    encoded[at] = value
    try:
        found = decode_membership(bytes(encoded))
    except MembershipError:
        return
    assert encode_membership(found) == bytes(encoded)


GOOD = Membership((Member(1, 11), Member(2, 12), Member(3, 13)), (1, 2), staging=(3,), leaving=(1,))


@pytest.mark.parametrize(
    "impossible",
    [
        pytest.param(UNKNOWN, id="no voters"),
        pytest.param(attrs.evolve(GOOD, voters=(2, 1)), id="out of order"),
        pytest.param(attrs.evolve(GOOD, voters=(1, 1, 2)), id="twice"),
        pytest.param(attrs.evolve(GOOD, members=GOOD.members[:2]), id="staging without being a member"),
        pytest.param(attrs.evolve(GOOD, voters=(1,)), id="a member without a part"),
        pytest.param(attrs.evolve(GOOD, staging=(2, 3)), id="voter and staging"),
        pytest.param(attrs.evolve(GOOD, leaving=(3,)), id="leaving without being a voter"),
        pytest.param(attrs.evolve(GOOD, voters_outgoing=(1, 2)), id="leaving while joint"),
        pytest.param(attrs.evolve(GOOD, voters=(1, 2, 3), staging=()), id="leaving with nobody staging"),
        pytest.param(attrs.evolve(GOOD, voters_outgoing=(9,), leaving=()), id="outgoing without being a member"),
        pytest.param(
            attrs.evolve(GOOD, members=(Member(1, 11), Member(2, 11), Member(3, 13))), id="two replicas on one host"
        ),
        pytest.param(attrs.evolve(GOOD, members=(Member(1, 0), *GOOD.members[1:])), id="a member on no host"),
        pytest.param(Membership((Member(0, 11),), (0,)), id="replica 0"),
    ],
)
def test_a_configuration_that_no_change_leads_to_is_refused(impossible: Membership) -> None:
    assert decode_membership(encode_membership(GOOD)) == GOOD
    with pytest.raises(MembershipError, match="contradicts itself"):
        decode_membership(encode_membership(impossible))
