"""``shardraft transfer``: another host leads a shard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from shardraft.cli.common import target_of, target_options
from shardraft.cli.operating import Done, Report, for_each, operate, view
from shardraft.errors import Conflict, InvalidArgument, ShardraftError
from shardraft.types import HostId, ShardId

if TYPE_CHECKING:
    from shardraft_router import Router


@click.command("transfer")
@click.option("--shard", type=click.IntRange(1, 2**32 - 1), metavar="N", help="The shard that is to be led there.")
@click.option("--all", "all_shards", is_flag=True, help="Every shard of which that host has a voter.")
@click.option(
    "--to", "host", type=click.IntRange(1, 2**32 - 1), required=True, metavar="HOST", help="The id of the host."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@target_options
def transfer_command(
    shard: ShardId | None,
    all_shards: bool,
    host: HostId,
    as_json: bool,
    endpoints: tuple[str, ...],
    timeout_seconds: float,
) -> int:
    """Let another host lead a shard, or all of them.

    \b
    shardraft transfer --shard 3 --to 2
    shardraft transfer --all --to 2

    No write is lost, and none waits for longer than a round or two. The new leader stays in office although
    another host is preferred, until it stops or somebody else is elected; to undo it, transfer the shard
    to its preferred host. A host that does not take over within an election timeout is given up: the old
    leader goes on, and the exit code is 1.
    """
    if (shard is None) == (not all_shards):
        raise click.UsageError("give either --shard N or --all")
    report = Report(as_json=as_json)

    async def transfer(router: Router) -> int:
        shards = [shard] if shard is not None else await _shards_on(router, host)

        async def one(each: ShardId) -> None:
            await _transfer(router, each, host, report)

        await for_each(shards, one)
        return report.end()

    return operate(target_of(endpoints, timeout_seconds), transfer)


async def _shards_on(router: Router, host: HostId) -> list[ShardId]:
    shards = [shard.shard for shard in (await view(router)).shards if host in shard.voters]
    if not shards:
        raise InvalidArgument(f"host {host} has no voter of any shard")
    return shards


async def _transfer(router: Router, shard: ShardId, host: HostId, report: Report) -> None:
    report.say(f"shard {shard}: handing over to host {host}")
    began = time.monotonic()
    try:
        reply = await router.admin.transfer(shard, host)
        if reply.leader != host:
            raise Conflict(f"host {reply.leader} was elected instead of host {host}", shard=shard)
    except ShardraftError as error:
        report.failed(f"shard {shard}", {"shard": shard}, error)
        return
    seconds = round(time.monotonic() - began, 3)
    report.done(
        Done(
            f"shard {shard}: host {host} leads, term {reply.term} ({seconds:.2f} s)",
            {"shard": shard, "leader": host, "term": reply.term, "seconds": seconds},
        )
    )
