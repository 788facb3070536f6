"""Whether a local cluster works: every shard led, every learner following."""

from __future__ import annotations

from collections.abc import Sequence

from shardraft.cli.layout import Layout
from shardraft.cli.view import view_of
from shardraft.errors import ShardraftError
from shardraft.kv.requests import StatusReply

ASK_SECONDS_MAX = 2.0


async def is_ready(layout: Layout) -> bool:
    """Ask every process of ``layout``; whether the whole cluster works."""
    from shardraft_router import open_router

    endpoints = [str(place.endpoint) for place in layout.hosts]
    try:
        async with open_router(endpoints, timeout_seconds=ASK_SECONDS_MAX) as router:
            answers = await router.status()
    except ShardraftError:
        return False
    return all_work(layout, [answer for answer in answers if isinstance(answer, StatusReply)])


def all_work(layout: Layout, replies: Sequence[StatusReply]) -> bool:
    """Whether every shard has a leader and every process has applied what was committed when it was asked."""
    view = view_of(replies)
    following = {learner.host for learner in view.learners if learner.lag_entries == 0}
    return (
        {place.host for place in layout.hosts} == {host.host for host in view.hosts}
        and view.all_led
        and len(view.shards) == layout.shards
        and all(entries == 0 for shard in view.shards for _, entries in shard.behind)
        and {place.host for place in layout.learners} <= following
    )
