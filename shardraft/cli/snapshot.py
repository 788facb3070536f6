"""``shardraft snapshot``: state to disk and logs short, now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from shardraft.cli.common import target_of, target_options
from shardraft.cli.operating import Done, Report, for_each, operate
from shardraft.errors import InvalidArgument, ShardraftError
from shardraft.kv.requests import StatusReply
from shardraft.types import HostId, ShardId

if TYPE_CHECKING:
    from shardraft_router import Router


@attrs.frozen(slots=True)
class _Place:
    """A shard on a host."""

    shard: ShardId
    host: HostId


@click.command("snapshot")
@click.option("--shard", type=click.IntRange(1, 2**32 - 1), metavar="N", help="This shard only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@target_options
def snapshot_command(shard: ShardId | None, as_json: bool, endpoints: tuple[str, ...], timeout_seconds: float) -> int:
    """Write the state of all shards, or of one, to disk and compact the logs behind it, on every host.

    \b
    shardraft snapshot
    shardraft snapshot --shard 3

    Hosts do that by themselves; asked to, they do it now, so that disks are small and restarts short. Of each
    log remains what a follower or learner that is connected has not yet got. Each result names the
    index up to which the state is on disk, what the log shrank from and to, and how long it took.
    A host that cannot be reached makes the exit code 3; the others are done. No backup is made.
    """
    report = Report(as_json=as_json)

    async def snapshot(router: Router) -> int:
        places = await _places(router, shard, report)

        async def one(place: _Place) -> None:
            await _snapshot(router, place, report)

        await for_each(places, one)
        return report.end()

    return operate(target_of(endpoints, timeout_seconds), snapshot)


async def _places(router: Router, shard: ShardId | None, report: Report) -> list[_Place]:
    """Every replica of a voter host; hosts that say nothing are reported."""
    places = []
    learners = {learner.endpoint for learner in await router.learners()}
    for answer in await router.status():
        if not isinstance(answer, StatusReply):
            if answer.endpoint in learners:
                continue
            report.failed(answer.endpoint, {"endpoint": answer.endpoint}, answer.error)
        elif answer.tier == 0:
            places += [_Place(each.shard, answer.host) for each in answer.shards if shard in (None, each.shard)]
    if not places and not report.exit_code:
        raise InvalidArgument(f"no host holds shard {shard}" if shard is not None else "no host holds any shard")
    return sorted(places, key=lambda place: (place.shard, place.host))


async def _snapshot(router: Router, place: _Place, report: Report) -> None:
    what = f"shard {place.shard} on host {place.host}"
    report.say(f"{what}: flushing")
    try:
        reply = await router.admin.snapshot(place.shard, place.host)
    except ShardraftError as error:
        report.failed(what, {"shard": place.shard, "host": place.host}, error)
        return
    before, after = reply.log_bytes_before / 1e6, reply.log_bytes / 1e6
    report.done(
        Done(
            f"{what}: flushed through index {reply.index:,}, log {before:.1f} MB -> {after:.1f} MB "
            f"({reply.took_us / 1e6:.2f} s)",
            {
                "shard": place.shard,
                "host": place.host,
                "index": reply.index,
                "first_index": reply.first_index,
                "log_bytes_before": reply.log_bytes_before,
                "log_bytes": reply.log_bytes,
                "seconds": reply.took_us / 1e6,
            },
        )
    )
