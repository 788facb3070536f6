"""What a local cluster consists of, kept in its data directory: who listens where, and who follows whom."""

from __future__ import annotations

import errno
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click

from shardraft.cli.common import parse_endpoint
from shardraft.types import NO_HOST, Endpoint, HostId

FORMAT_VERSION: Final = 1
LOOPBACK: Final = "127.0.0.1"
FREE_PORTS: Final = range(20_000, 32_000)
"""Below the range from which the kernel takes ports for outgoing connections, which could be in the way later."""


@attrs.frozen(slots=True)
class Place:
    """One process of the cluster. ``tier`` 0 is a voter host, whose ``parent`` is 0."""

    host: HostId
    tier: int
    parent: HostId
    endpoint: Endpoint

    @property
    def name(self) -> str:
        return f"learner-{self.host}" if self.tier else f"host-{self.host}"


@attrs.frozen(slots=True)
class Layout:
    """A whole local cluster: voter hosts first, then learners tier by tier."""

    shards: int
    cluster_token: str
    hosts: tuple[Place, ...]
    learners: tuple[Place, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        return self.hosts + self.learners

    def parents_of(self, learner: Place) -> tuple[Endpoint, ...]:
        """Where ``learner`` may attach: its parent, then the others of its parent's tier."""
        above = [place for place in self.places if place.tier == learner.tier - 1]
        above.sort(key=lambda place: place.host != learner.parent)
        return tuple(place.endpoint for place in above)


@attrs.frozen(slots=True)
class Wish:
    """What the command line asks for; None leaves it as it was, or as it is by default."""

    hosts: int | None = None
    shards: int | None = None
    learners: tuple[int, ...] | None = None
    port: int | None = None


DEFAULT_HOSTS: Final = 3
DEFAULT_SHARDS: Final = 8
DEFAULT_LEARNERS: Final = (2, 2)


def settle(data_dir: Path, wish: Wish) -> Layout:
    """The layout of the cluster in ``data_dir``: the one it was made with, else a fresh one as wished, and kept.

    Hosts, shards and ports are fixed when a cluster is made, and ``click.UsageError`` says so;
    learners may come and go.
    """
    path = data_dir / "cluster.json"
    kept = _load(path) if path.exists() else None
    layout = _make(wish) if kept is None else _adapt(kept, wish, data_dir)
    if layout != kept:
        _save(path, layout)
    return layout


def _make(wish: Wish) -> Layout:
    ports = iter(range(wish.port, 65_536)) if wish.port is not None else free_ports(())
    count = wish.hosts or DEFAULT_HOSTS
    hosts = tuple(Place(number, 0, NO_HOST, Endpoint(LOOPBACK, next(ports))) for number in range(1, count + 1))
    counts = DEFAULT_LEARNERS if wish.learners is None else wish.learners
    learners = _learners(counts, hosts, {}, ports)
    return Layout(wish.shards or DEFAULT_SHARDS, secrets.token_hex(8), hosts, learners)


def _adapt(kept: Layout, wish: Wish, data_dir: Path) -> Layout:
    for what, asked, made in (
        ("--hosts", wish.hosts, len(kept.hosts)),
        ("--shards", wish.shards, kept.shards),
        ("--port", wish.port, kept.hosts[0].endpoint.port),
    ):
        if asked is not None and asked != made:
            raise click.UsageError(f"the cluster in {data_dir} was made with {what} {made}; give another --data-dir")
    if wish.learners is None:
        return kept
    known = {place.host: place.endpoint for place in kept.learners}
    ports = free_ports([place.endpoint.port for place in kept.places])
    return attrs.evolve(kept, learners=_learners(wish.learners, kept.hosts, known, ports))


def _learners(
    counts: Sequence[int], hosts: tuple[Place, ...], known: dict[HostId, Endpoint], ports: Iterator[int]
) -> tuple[Place, ...]:
    """``counts[0]`` learners below the hosts, ``counts[1]`` below those; learner 203 is the third of tier 2."""
    above = hosts
    learners: list[Place] = []
    for tier, count in enumerate(counts, start=1):
        row = []
        for position in range(count):
            number = 100 * tier + position + 1
            endpoint = known.get(number) or Endpoint(LOOPBACK, next(ports))
            row.append(Place(number, tier, above[position % len(above)].host, endpoint))
        learners.extend(row)
        above = tuple(row)
    return tuple(learners)


def free_ports(taken: Sequence[int]) -> Iterator[int]:
    """Ports on which nothing listens, in random order so that two clusters made at once do not meet."""
    for port in random.SystemRandom().sample(FREE_PORTS, len(FREE_PORTS)):
        if port not in taken and port_is_free(port):
            yield port
    raise OSError(errno.EADDRINUSE, "no free port is left on loopback")


def port_is_free(port: int) -> bool:
    """Whether a listener could be opened on ``port`` of loopback; ports in TIME_WAIT are free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def write_atomically(path: Path, text: str) -> None:
    """Write ``path`` so that a reader sees the old content or all of the text, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def _save(path: Path, layout: Layout) -> None:
    value = {
        "format": FORMAT_VERSION,
        "shards": layout.shards,
        "cluster": layout.cluster_token,
        "hosts": [{"id": place.host, "endpoint": str(place.endpoint)} for place in layout.hosts],
        "learners": [
            {"id": place.host, "tier": place.tier, "parent": place.parent, "endpoint": str(place.endpoint)}
            for place in layout.learners
        ],
    }
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def _load(path: Path) -> Layout:
    try:
        value = json.loads(path.read_text())
        if value["format"] > FORMAT_VERSION:
            raise click.UsageError(f"{path} has format {value['format']}, which a newer shardraft wrote")
        return Layout(
            int(value["shards"]),
            str(value["cluster"]),
            tuple(_place(each, 0) for each in value["hosts"]),
            tuple(_place(each, int(each["tier"])) for each in value["learners"]),
        )
    except (ValueError, KeyError, TypeError):
        raise click.UsageError(
            f"{path} is damaged; restore it, or remove {path.parent} to give up its data"
        ) from None


def _place(value: dict[str, Any], tier: int) -> Place:
    return Place(int(value["id"]), tier, int(value.get("parent", NO_HOST)), parse_endpoint(value["endpoint"]))
