"""Where a learner looks for its parent."""

from __future__ import annotations

from shardraft.config import Limits
from shardraft.learner.parents import Parents
from shardraft.shards.shard_map import HostPlace, ShardMap

SEARCH_US = Limits().parent_search_ms_max * 1000


def map_of(*endpoints: str) -> ShardMap:
    hosts = tuple(HostPlace(number, endpoint) for number, endpoint in enumerate(endpoints, 1))
    return ShardMap.bootstrap(b"c" * 16, hosts, shards=1)


def tried(parents: Parents, count: int, now_us: int) -> list[str]:
    found = []
    for _ in range(count):
        parents.turn_to_next(now_us)
        found.append(parents.endpoint)
    return found


def test_the_given_parents_are_tried_in_turn() -> None:
    parents = Parents(("a:1", "b:1"), Limits(), map_of("v:1"))
    assert parents.endpoint == "a:1"
    assert tried(parents, 3, 0) == ["b:1", "a:1", "b:1"]


def test_voter_hosts_are_asked_once_the_given_ones_were_tried_in_vain_for_long() -> None:
    """A relay that restarts gets its children back: they do not all run to the voter hosts."""
    parents = Parents(("a:1",), Limits(), map_of("v:1", "w:1"))
    assert tried(parents, 1, 0) == ["a:1"]
    assert tried(parents, 1, SEARCH_US - 1) == ["a:1"]
    assert tried(parents, 3, SEARCH_US) == ["v:1", "w:1", "a:1"]


def test_voter_hosts_are_asked_at_once_when_a_parent_lacks_a_shard() -> None:
    parents = Parents(("a:1",), Limits(), map_of("v:1"))
    parents.lacks_shard()
    assert tried(parents, 2, 0) == ["v:1", "a:1"]


def test_a_whole_parent_ends_the_search() -> None:
    parents = Parents(("a:1", "b:1"), Limits(), map_of("v:1"))
    parents.lacks_shard()
    assert tried(parents, 2, 0) == ["b:1", "v:1"]
    parents.was_whole()
    assert tried(parents, 2, SEARCH_US) == ["a:1", "b:1"], "the given ones come first again"


def test_hosts_that_came_later_take_the_place_of_those_that_are_gone() -> None:
    parents = Parents(("a:1",), Limits(), map_of("v:1"))
    parents.tell(map_of("w:1", "a:1"))
    parents.lacks_shard()
    assert tried(parents, 2, 0) == ["w:1", "a:1"], "nobody is tried twice in a round"


def test_there_may_be_nobody_else() -> None:
    assert not Parents(("a:1",), Limits(), map_of("a:1")).has_other
    assert Parents(("a:1",), Limits(), map_of("a:1", "v:1")).has_other
    alone = Parents((), Limits())
    alone.turn_to_next(0)
    assert (alone.endpoint, alone.has_other) == ("", False)
