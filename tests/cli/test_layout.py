"""The layout of a local cluster: made once, kept, and refused when it is asked to be another."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import click
import pytest

from shardraft.cli.layout import LOOPBACK, Wish, port_is_free, settle, write_atomically


def test_by_default_there_are_three_hosts_eight_shards_and_two_learners_in_each_of_two_tiers(tmp_path: Path) -> None:
    layout = settle(tmp_path, Wish())
    assert [place.host for place in layout.hosts] == [1, 2, 3]
    assert layout.shards == 8
    assert [(place.host, place.tier, place.parent) for place in layout.learners] == [
        (101, 1, 1),
        (102, 1, 2),
        (201, 2, 101),
        (202, 2, 102),
    ]


def test_the_next_start_finds_the_same_ports(tmp_path: Path) -> None:
    assert settle(tmp_path, Wish()) == settle(tmp_path, Wish())
    assert settle(tmp_path, Wish()) == settle(tmp_path, Wish(hosts=3, shards=8, learners=(2, 2)))


def test_no_two_processes_share_a_port(tmp_path: Path) -> None:
    layout = settle(tmp_path, Wish(hosts=5, learners=(9, 20)))
    ports = [place.endpoint.port for place in layout.places]
    assert len(set(ports)) == len(ports) == 34


def test_given_a_port_the_others_follow_it(tmp_path: Path) -> None:
    layout = settle(tmp_path, Wish(port=21000, learners=(1,)))
    assert [place.endpoint.port for place in layout.places] == [21000, 21001, 21002, 21003]


def test_a_learner_may_fall_back_on_the_others_of_its_parents_tier(tmp_path: Path) -> None:
    layout = settle(tmp_path, Wish(port=21000))
    second_of_tier_2 = layout.learners[3]
    assert [parent.port for parent in layout.parents_of(second_of_tier_2)] == [21004, 21003]
    assert [parent.port for parent in layout.parents_of(layout.learners[1])] == [21001, 21000, 21002]


def test_two_clusters_have_two_tokens(tmp_path: Path) -> None:
    assert settle(tmp_path / "a", Wish()).cluster_token != settle(tmp_path / "b", Wish()).cluster_token


@pytest.mark.parametrize("wish", [Wish(hosts=5), Wish(shards=9), Wish(port=1)])
def test_hosts_shards_and_ports_are_fixed_when_a_cluster_is_made(tmp_path: Path, wish: Wish) -> None:
    settle(tmp_path, Wish(port=21000))
    with pytest.raises(click.UsageError, match="give another --data-dir"):
        settle(tmp_path, wish)


def test_learners_may_come_and_go_and_keep_their_ports(tmp_path: Path) -> None:
    made = settle(tmp_path, Wish(learners=(1, 1)))
    more = settle(tmp_path, Wish(learners=(2, 2)))
    assert [place.host for place in more.learners] == [101, 102, 201, 202]
    assert {place.endpoint for place in made.learners} <= {place.endpoint for place in more.learners}
    assert settle(tmp_path, Wish(learners=())).learners == ()


def test_a_layout_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    settle(tmp_path, Wish())
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(click.UsageError, match="newer shardraft"):
        settle(tmp_path, Wish())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "shards": "x"}'])
def test_a_damaged_layout_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(click.UsageError, match="is damaged"):
        settle(tmp_path, Wish())


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_writing_atomically_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ready.json"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]
