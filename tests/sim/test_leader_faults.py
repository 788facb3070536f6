"""The faults that look for leaders bring about what they are made for, and leases are seen to exclude each other."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, RaftConfig
from shardraft.raft.lease import Lease
from shardraft.sim.cluster import Cluster
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import Simulation

WITH_LEASES = HostConfig(raft=RaftConfig(lease_ms=400))


def notes_of(kind: str, *, hosts: int = 3, spares: int = 0, seed: int = 1) -> list[str]:
    """What is told of a world that has faults of one kind only, and keeps every promise."""
    lines: list[str] = []
    world = SimulationOptions(seed=seed, hosts=hosts, spares=spares, shards=1, learners=(), seconds=10.0, kinds=(kind,))
    Simulation(world, lines.append).run()
    return [line.split(maxsplit=1)[1] for line in lines]


def place_of(start: str, notes: list[str], first: int = 0) -> int:
    return next(place for place, note in enumerate(notes) if place >= first and note.startswith(start))


def test_a_leader_that_falls_silent_is_found_dead_when_another_leads() -> None:
    notes = notes_of("silence leader")
    silenced = place_of("silence 1", notes)
    elected = min(place_of(f"{host} leads", notes, silenced) for host in (2, 3))
    assert elected < place_of("uncut 1>", notes, silenced)


def test_followers_start_over_in_no_time_and_the_preferred_leader_is_one_of_them() -> None:
    notes = notes_of("restart followers")
    moved = next(place for place, note in enumerate(notes) if "is to lead, and the others are to start over" in note)
    leader = notes[moved].split("host ")[1][0]
    assert leader != "1", "the preferred one leads, and another is to"
    assert place_of("crash 1", notes, moved) < place_of("start 1", notes, moved)
    assert place_of(f"cut {leader} off", notes, moved) < place_of("start 1", notes, moved)


def test_a_leader_keeps_one_follower_which_its_successor_is_cut_off_from_for_a_moment() -> None:
    notes = notes_of("keep one follower", hosts=5)
    kept = {note.split()[-1] for note in notes if " keeps " in note}
    interrupted = [note.split() for note in notes if note.startswith("interrupt ")]
    assert interrupted
    assert {follower for _, _, _, follower in interrupted} <= kept


def test_a_leader_is_brought_back_while_its_successor_is_cut_off() -> None:
    notes = notes_of("bring back leader")
    gone = place_of("cut 1 off, until another leads", notes)
    leads = next(place for place, note in enumerate(notes) if place > gone and " leads shard 1" in note)
    successor = notes[leads].split()[0]
    cut = place_of(f"cut {successor} off", notes, leads)
    assert place_of("uncut ", notes, cut) == cut + 1, "the first is connected again at once"


def test_a_leader_and_its_successor_are_asked_to_remove_different_voters() -> None:
    notes = notes_of("remove twice", spares=1, seed=4)
    stranded = place_of("strand ", notes)
    unheard = next(place for place, note in enumerate(notes) if place > stranded and " does not hear " in note)
    successor = notes[unheard].split()[-1]
    assert place_of(f"{successor} leads", notes, stranded) < unheard
    assert "host none is to join" in notes[unheard - 1]


def test_two_voters_change_at_once() -> None:
    notes = notes_of("change several members", spares=2)
    assert any("are to join" in note for note in notes)
    assert any("voters_outgoing=[1 2 3]" in note for note in notes), "that takes a joint configuration"


def test_no_change_of_several_is_begun_that_the_leader_refuses() -> None:
    cluster = Cluster(spares=2)
    cluster.settle()
    operator = cluster.world.operator
    assert not operator.change_several(1, [], [])
    assert operator.change_several(1, [4, 5], [1, 2])
    assert not operator.change_several(1, [], [3]), "another change is under way"
    cluster.run_until(lambda: cluster.members() == [3, 4, 5])
    cluster.settle()


@pytest.mark.parametrize("kind", ["silence leader", "restart followers", "keep one follower", "bring back leader"])
def test_a_leader_without_followers_is_let_be(kind: str) -> None:
    options = SimulationOptions(seed=3, hosts=1, shards=1, learners=(), seconds=4.0, kinds=(kind,))
    assert Simulation(options).run().faults_by_kind == {}


# Leases.


def depose(cluster: Cluster) -> None:
    """Cut the leader off, and let others elect another while it still takes itself for the leader."""
    leader = cluster.elect()
    cluster.write(b"k", b"v")
    for other in cluster.followers():
        cluster.world.peers.reset(other, leader)
    cluster.isolate(leader)
    cluster.elect_other_than(leader)


def test_a_leader_that_is_deposed_has_no_lease_any_more() -> None:
    cluster = Cluster(config=WITH_LEASES)
    depose(cluster)
    assert cluster.world.leases.checked > 0


@pytest.mark.replaces_code
def test_a_lease_that_outlives_the_election_of_another_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(config=WITH_LEASES)
    cluster.elect()
    monkeypatch.setattr(Lease, "holds", lambda self, now_us: True)
    with pytest.raises(SimulationFailure, match=r"lease: host \d leads .*, and host \d may answer reads"):
        depose(cluster)
