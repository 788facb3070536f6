"""Whole read trees: a voter, two learners below it, three below those, and everything that can go wrong.

Links break, stick and deliver frames twice; processes lose their unpersisted tails; logs are
compacted, parents are replaced by copies, children change parents, also to ones below them.
Through all of it every learner has applied a prefix of what was committed, without a gap; and once
things work again, everybody has all of it.
"""

from __future__ import annotations

import pytest

from shardraft.learner.messages import FeedEntries
from tests.learner.process import SHARDS, Link
from tests.learner.tree import Tree

PROPER_PARENTS = {2: 1, 3: 1, 4: 2, 5: 2, 6: 3}


def run_links(tree: Tree, *, doubling: float) -> None:
    for link in list(tree.links):
        if not link.is_open:
            if tree.random.random() < 0.3:
                tree.tell_closed(link)
            continue
        for _ in range(tree.random.randint(0, 3)):
            tree.deliver(link, link.up, link.parent, doubling)
            tree.deliver(link, link.down, link.child, doubling)


def run_processes(tree: Tree) -> None:
    for process in tree.processes.values():
        if tree.random.random() < 0.7:
            process.turn()
        for _ in range(tree.random.randint(0, 2)):
            process.persist_one()
        if tree.random.random() < 0.3:
            process.spool_one()
        for shard, replica in process.replicas.items():
            if tree.random.random() < 0.3:
                process.install_one(shard)
            if tree.random.random() < 0.5:
                replica.apply(process.commit[shard] if process.is_voter else replica.last_index)
            if tree.random.random() < 0.2:
                process.flush(shard)


def go_wrong(tree: Tree) -> None:
    """One fault, sometimes."""
    random = tree.random
    process = random.choice(list(tree.processes.values()))
    links = [link for link in tree.links if link.is_open]
    match random.randint(0, 40):
        case 0 if links:
            random.choice(links).close()
        case 1 if links:
            random.choice(links).is_stuck = True
        case 2:
            process.crash(random)
        case 3 if process.disk:
            shard = random.choice(SHARDS)
            process.flush(shard)
            process.compact(shard, random.randint(0, len(process.disk[shard].applied)))
        case 4 if random.random() < 0.3:
            tree.jump(random.choice(SHARDS), random.randint(1, 20))
        case 5:
            host = random.randint(2, 6)
            tree.parent_of[host] = random.choice([other for other in tree.processes if other != host])
        case 6:
            tree.term[random.choice(SHARDS)] += 1
        case _:
            pass


def step(tree: Tree, *, wild: bool) -> None:
    tree.now_us += tree.random.randint(1_000, 100_000)
    if wild:
        go_wrong(tree)
        if tree.random.random() < 0.4:
            tree.commit(tree.random.choice(SHARDS), tree.random.randint(1, 5))
    for host in tree.parent_of:
        if tree.random.random() < 0.5:
            tree.connect(host)
    run_links(tree, doubling=0.05 if wild else 0.0)
    run_processes(tree)
    tree.check()


def is_caught_up(tree: Tree) -> bool:
    return all(
        process.replicas.keys() == set(SHARDS)
        and all(len(process.replicas[shard].applied) == len(tree.committed[shard]) for shard in SHARDS)
        for process in tree.processes.values()
    )


def heal(tree: Tree) -> None:
    tree.parent_of = dict(PROPER_PARENTS)
    for link in tree.links:
        link.close()
    for shard in SHARDS:
        tree.commit(shard, 1)


def run(tree: Tree, steps: int) -> None:
    for _ in range(steps):
        step(tree, wild=True)
    heal(tree)
    for _ in range(1500):
        step(tree, wild=False)
        if is_caught_up(tree) and all(tree.processes[host].learner.is_following for host in PROPER_PARENTS):
            return
    pytest.fail(f"not caught up: {[process.learner.shards() for process in tree.processes.values()]}")


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_learners_apply_a_prefix_without_gaps_and_catch_up_in_the_end(seed: int) -> None:
    tree = Tree(seed)
    run(tree, 400)
    assert [len(tree.committed[shard]) > 100 for shard in SHARDS] == [True, True], "the run was about something"
    tiers = {host: tree.processes[host].learner.tier for host in PROPER_PARENTS}
    assert tiers == {2: 1, 3: 1, 4: 2, 5: 2, 6: 2}


def calm(steps: int = 60) -> Tree:
    """A tree in which everything works and everybody has the first entries."""
    tree = Tree(1)
    for shard in SHARDS:
        tree.commit(shard, 5)
    for _ in range(steps):
        step(tree, wild=False)
    assert is_caught_up(tree)
    return tree


def test_the_voter_lists_the_whole_tree_below_it() -> None:
    tree = calm()
    below = [(place.host, place.tier, place.parent) for place in tree.voter.feed.descendants]
    assert below == [(2, 1, 1), (3, 1, 1), (4, 2, 2), (5, 2, 2), (6, 2, 3)]


def test_a_relay_forwards_entries_before_it_persists_or_applies_them() -> None:
    tree = calm()
    relay = tree.processes[2]
    tree.commit(1, 1)
    tree.voter.turn()
    (down,) = [link for link in tree.links if link.child is relay]
    while down.down:
        tree.deliver(down, down.down, relay)
    relay.turn()
    forwarded = [message for link in _links_below(tree, 2) for frame in link.down for message in frame]
    assert [message.entries[0].index for message in forwarded if isinstance(message, FeedEntries)] == [6, 6]
    assert relay.replicas[1].log.persisted_index == 5
    assert len(relay.replicas[1].applied) == 5


def test_a_relay_restarted_without_its_tail_parks_its_children_and_they_lose_nothing() -> None:
    tree = calm()
    relay, child = tree.processes[2], tree.processes[4]
    child.replicas[1].accept((), 5)
    tree.commit(1, 3)
    for _ in range(40):
        tree.now_us += 10_000
        run_links(tree, doubling=0.0)
        for process in (tree.voter, relay, child):
            process.turn()
        while child.writes:
            child.persist_one()
    assert child.replicas[1].last_index == 8
    relay.writes.clear()  # Its disk did nothing all the while.
    relay.crash(tree.random)
    assert relay.replicas[1].last_index == 5
    tree.commit(1, 1)
    for _ in range(200):
        step(tree, wild=False)
    assert is_caught_up(tree)


def test_grandchildren_stay_attached_while_their_parent_looks_for_its_own() -> None:
    tree = calm()
    (up,) = [link for link in tree.links if link.child is tree.processes[2]]
    up.close()
    tree.tell_closed(up)
    attached = [tree.processes[host].learner.parent for host in (4, 5)]
    for _ in range(30):
        tree.now_us += 50_000
        run_links(tree, doubling=0.0)
        run_processes(tree)
    assert not tree.processes[2].learner.is_attached
    assert [tree.processes[host].learner.parent for host in (4, 5)] == attached == [2, 2]


def _links_below(tree: Tree, host: int) -> list[Link]:
    return [link for link in tree.links if link.parent is tree.processes[host]]
