"""What ``status`` and the readiness of ``dev`` make of the answers of single processes."""

from __future__ import annotations

from shardraft.cli.layout import Layout, Place
from shardraft.cli.readiness import all_work
from shardraft.cli.status import as_value, change_of
from shardraft.cli.view import view_of
from shardraft.errors import Unavailable
from shardraft.kv.requests import FollowerStatus, ShardStatus, StatusReply
from shardraft.types import Endpoint, Member, Membership
from shardraft_router import HostUnreachable

THREE = Membership.of({1: 1, 2: 2, 3: 3})
STAGING = Membership((*THREE.members, Member(4, 9)), (1, 2, 3), staging=(4,), leaving=(3,))
JOINT = Membership((*THREE.members, Member(4, 9)), (1, 2, 4), voters_outgoing=(1, 2, 3))


def shard(
    number: int,
    role: str,
    *,
    term: int = 3,
    commit: int = 10,
    applied: int = 10,
    membership: Membership = THREE,
    index: int = 0,
    followers: tuple[FollowerStatus, ...] = (),
) -> ShardStatus:
    return ShardStatus(
        shard=number,
        role=role,
        term=term,
        leader=0,
        replica=1,
        commit_index=commit,
        applied_index=applied,
        flushed_index=0,
        first_index=1,
        last_index=commit,
        log_bytes=2_000_000,
        revision=7,
        sessions=1,
        membership=membership,
        membership_index=index,
        followers=followers,
    )


def process(host: int, *shards: ShardStatus, tier: int = 0, parent: int = 0) -> StatusReply:
    return StatusReply(
        request_id=1,
        host=host,
        version="0.1.0",
        tier=tier,
        parent=parent,
        uptime_ms=1000,
        shards=shards,
        children=(),
    )


HEALTHY = [
    process(1, shard(1, "leader"), shard(2, "follower")),
    process(2, shard(1, "follower"), shard(2, "leader")),
    process(3, shard(1, "follower"), shard(2, "follower")),
    process(101, shard(1, "learner"), shard(2, "learner"), tier=1, parent=1),
    process(201, shard(1, "learner"), shard(2, "learner"), tier=2, parent=101),
]
LAYOUT = Layout(
    2,
    "token",
    tuple(Place(host, 0, 0, Endpoint("h", host)) for host in (1, 2, 3)),
    (Place(101, 1, 1, Endpoint("h", 101)), Place(201, 2, 101, Endpoint("h", 201))),
)


def replaced(reply: StatusReply) -> list[StatusReply]:
    return [reply if reply.host == each.host else each for each in HEALTHY]


def test_leaders_terms_and_indexes_are_the_leaders_own() -> None:
    first, second = view_of(HEALTHY).shards
    assert (first.leader, second.leader) == (1, 2)
    assert (first.term, first.commit_index, first.applied_index, first.revision) == (3, 10, 10, 7)


def test_of_two_leaders_the_one_of_the_higher_term_leads() -> None:
    deposed = process(3, shard(1, "leader", term=2), shard(2, "follower"))
    assert view_of(replaced(deposed)).shards[0].leader == 1


def test_a_follower_and_a_learner_are_as_far_behind_as_they_have_not_applied() -> None:
    slow = process(3, shard(1, "follower", applied=4), shard(2, "follower"))
    assert view_of(replaced(slow)).shards[0].behind == ((2, 0), (3, 6))
    lagging = process(101, shard(1, "learner", applied=7), shard(2, "learner", applied=9), tier=1, parent=1)
    assert [learner.lag_entries for learner in view_of(replaced(lagging)).learners] == [4, 0]


def test_a_learner_ahead_of_the_leaders_answer_does_not_lag() -> None:
    ahead = process(101, shard(1, "learner", applied=12), shard(2, "learner"), tier=1, parent=1)
    assert view_of(replaced(ahead)).learners[0].lag_entries == 0


def test_without_a_leader_the_lag_is_unknown() -> None:
    leaderless = process(1, shard(1, "candidate", term=4), shard(2, "follower"))
    view = view_of(replaced(leaderless))
    assert (view.shards[0].leader, view.shards[0].term, view.all_led) == (0, 4, False)
    assert [learner.lag_entries for learner in view.learners] == [None, None]


def test_a_learner_that_does_not_follow_every_shard_has_an_unknown_lag() -> None:
    partial = process(201, shard(1, "learner"), tier=2, parent=101)
    assert view_of(replaced(partial)).learners[1].lag_entries is None


def test_a_cluster_of_nothing_is_not_led() -> None:
    assert not view_of([]).all_led


def test_a_cluster_works_when_all_lead_and_all_follow() -> None:
    assert all_work(LAYOUT, HEALTHY)


def test_a_cluster_does_not_work_yet_while_anything_is_missing() -> None:
    for missing in HEALTHY:
        assert not all_work(LAYOUT, [reply for reply in HEALTHY if reply is not missing])
    assert not all_work(LAYOUT, replaced(process(1, shard(1, "follower"), shard(2, "follower"))))
    assert not all_work(LAYOUT, replaced(process(3, shard(1, "follower", applied=9), shard(2, "follower"))))
    behind = process(201, shard(1, "learner", applied=9), shard(2, "learner"), tier=2, parent=101)
    assert not all_work(LAYOUT, replaced(behind))


def test_the_json_has_shards_learners_and_who_is_silent() -> None:
    silent = [HostUnreachable("h:4", Unavailable("connection refused"))]
    value = as_value(view_of(HEALTHY), silent)
    assert [host["leads"] for host in value["hosts"]] == [1, 1, 0]
    assert value["shards"][0] == {
        "shard": 1,
        "leader": 1,
        "term": 3,
        "commit_index": 10,
        "applied_index": 10,
        "revision": 7,
        "log_bytes": 2_000_000,
        "followers": [{"id": 2, "lag_entries": 0}, {"id": 3, "lag_entries": 0}],
        "voters": [1, 2, 3],
        "voters_outgoing": [],
        "staging": [],
        "leaving": [],
    }
    assert value["learners"][1] == {"id": 201, "tier": 2, "parent": 101, "lag_entries": 0}
    assert value["unreachable"] == [{"endpoint": "h:4", "reason": "connection refused"}]


def change(*statuses: ShardStatus) -> str:
    return change_of(view_of([process(host, each) for host, each in enumerate(statuses, start=1)]).shards[0])


def test_a_change_of_voters_is_told_with_how_far_the_new_ones_are() -> None:
    far = FollowerStatus(replica=4, match_index=3, silent_ms=5, copying=False)
    copied = FollowerStatus(replica=4, match_index=0, silent_ms=5, copying=True)
    assert change(shard(1, "leader")) == ""
    assert change(shard(1, "leader", membership=STAGING, followers=(far,))) == "staging 9 (7 behind), then 3 leaves"
    copying = shard(1, "leader", membership=STAGING, followers=(copied,))
    assert change(copying) == "staging 9 (gets a full copy), then 3 leaves"
    assert change(shard(1, "leader", membership=JOINT)) == "joint: 1 2 3 -> 1 2 9"


def test_without_a_leader_the_latest_configuration_that_anybody_knows_is_told() -> None:
    old, new = shard(1, "follower", membership=THREE, index=4), shard(1, "follower", membership=STAGING, index=8)
    for statuses in ((old, new), (new, old)):
        assert change(*statuses) == "staging 9 (unknown behind), then 3 leaves"


def test_the_json_tells_a_change_by_hosts() -> None:
    far = FollowerStatus(replica=4, match_index=3, silent_ms=5, copying=False)
    (told,) = as_value(view_of([process(1, shard(1, "leader", membership=STAGING, followers=(far,)))]), [])["shards"]
    assert (told["voters"], told["leaving"]) == ([1, 2, 3], [3])
    assert told["staging"] == [{"id": 9, "lag_entries": 7, "copying": False}]
