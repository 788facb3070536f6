"""``shardraft status``: what the cluster is doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from shardraft.cli.common import print_json, target_of, target_options, with_router
from shardraft.cli.failures import EXIT_UNAVAILABLE, line_of
from shardraft.cli.view import ClusterView, ShardView, StagingView, view_of
from shardraft.kv.requests import StatusReply
from shardraft.types import NO_HOST, HostId

if TYPE_CHECKING:
    from rich.table import Table

    from shardraft_router import HostUnreachable


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@target_options
def status_command(as_json: bool, endpoints: tuple[str, ...], timeout_seconds: float) -> int:
    """Show the shards with their leaders, voters, terms and indexes, and the learners with tier and lag.

    \b
    shardraft status
    shardraft status --json

    A change of voters that is under way is shown with the hosts that are catching up (staging), or the two sets of
    voters whose majorities both count (joint). The exit code is 3 when a shard has no leader that can be
    reached.
    """
    answers = with_router(target_of(endpoints, timeout_seconds), lambda router: router.status())
    replies = [answer for answer in answers if isinstance(answer, StatusReply)]
    silent = [answer for answer in answers if not isinstance(answer, StatusReply)]
    view = view_of(replies)
    if as_json:
        print_json(as_value(view, silent))
    else:
        _print_tables(view, silent)
    return 0 if view.all_led else EXIT_UNAVAILABLE


def as_value(view: ClusterView, silent: Sequence[HostUnreachable]) -> dict[str, Any]:
    """The status as JSON."""
    return {
        "hosts": [
            {
                "id": host.host,
                "version": host.version,
                "uptime_ms": host.uptime_ms,
                "leads": sum(shard.leader == host.host for shard in view.shards),
            }
            for host in view.hosts
        ],
        "shards": [
            {
                "shard": shard.shard,
                "leader": shard.leader or None,
                "term": shard.term,
                "commit_index": shard.commit_index,
                "applied_index": shard.applied_index,
                "revision": shard.revision,
                "log_bytes": shard.log_bytes,
                "followers": [{"id": host, "lag_entries": entries} for host, entries in shard.behind],
                "voters": list(shard.voters),
                "voters_outgoing": list(shard.voters_outgoing),
                "staging": [
                    {"id": each.host, "lag_entries": each.lag_entries, "copying": each.copying}
                    for each in shard.staging
                ],
                "leaving": list(shard.leaving),
            }
            for shard in view.shards
        ],
        "learners": [
            {"id": learner.host, "tier": learner.tier, "parent": learner.parent, "lag_entries": learner.lag_entries}
            for learner in view.learners
        ],
        "unreachable": [{"endpoint": each.endpoint, "reason": line_of(each.error)} for each in silent],
    }


def _print_tables(view: ClusterView, silent: Sequence[HostUnreachable]) -> None:
    from rich.console import Console

    console = Console()
    leads = Counter(shard.leader for shard in view.shards)
    hosts = _table("host", "leads", "version", "up")
    for host in view.hosts:
        hosts.add_row(str(host.host), str(leads[host.host]), host.version, _duration(host.uptime_ms))
    console.print(hosts)
    changes = [change_of(shard) for shard in view.shards]
    columns = ["shard", "leader", "voters", "term", "commit", "applied", "revision", "log", "behind"]
    shards = _table(*columns, *(["change"] if any(changes) else []))
    for shard in view.shards:
        leader = str(shard.leader) if shard.leader != NO_HOST else "[red]none[/red]"
        behind = ", ".join(f"{host}: {entries:,}" for host, entries in shard.behind if entries) or "none"
        numbers = (shard.term, shard.commit_index, shard.applied_index, shard.revision)
        cells = [f"{number:,}" for number in numbers]
        voters = " ".join(map(str, shard.voters)) or "unknown"
        log = f"{shard.log_bytes / 1e6:.1f} MB"
        change = [change_of(shard)] if any(changes) else []
        shards.add_row(str(shard.shard), leader, voters, *cells, log, behind, *change)
    console.print(shards)
    if view.learners:
        learners = _table("learner", "tier", "parent", "entries behind")
        for learner in view.learners:
            lag = "unknown" if learner.lag_entries is None else f"{learner.lag_entries:,}"
            learners.add_row(str(learner.host), str(learner.tier), str(learner.parent), lag)
        console.print(learners)
    for each in silent:
        console.print(f"[red]unreachable[/red] {each.endpoint}: {line_of(each.error)}", highlight=False)


def change_of(shard: ShardView) -> str:
    """The change of voters that is under way, in words; empty when there is none."""
    if shard.voters_outgoing:
        return f"joint: {_numbers(shard.voters_outgoing)} -> {_numbers(shard.voters)}"
    parts = [f"staging {staging_in_words(each)}" for each in shard.staging]
    if shard.leaving:
        parts.append(f"then {_numbers(shard.leaving)} leaves")
    return ", ".join(parts)


def staging_in_words(staging: StagingView) -> str:
    """A host that is catching up, and how far it is."""
    if staging.copying:
        return f"{staging.host} (gets a full copy)"
    lag = "unknown" if staging.lag_entries is None else f"{staging.lag_entries:,}"
    return f"{staging.host} ({lag} behind)"


def _numbers(hosts: Sequence[HostId]) -> str:
    return " ".join(map(str, hosts))


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _duration(milliseconds: int) -> str:
    seconds = milliseconds // 1000
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
