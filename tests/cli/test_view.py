"""What ``status`` and the readiness of ``dev`` make of the answers of single processes."""

from __future__ import annotations

from shardraft.cli.layout import Layout, Place
from shardraft.cli.readiness import all_work
from shardraft.cli.status import as_value
from shardraft.cli.view import view_of
from shardraft.errors import Unavailable
from shardraft.kv.requests import ShardStatus, StatusReply
from shardraft.types import Endpoint
from shardraft_router import HostUnreachable


def shard(number: int, role: str, *, term: int = 3, commit: int = 10, applied: int = 10) -> ShardStatus:
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
    }
    assert value["learners"][1] == {"id": 201, "tier": 2, "parent": 101, "lag_entries": 0}
    assert value["unreachable"] == [{"endpoint": "h:4", "reason": "connection refused"}]
