"""``shardraft member add``, ``remove`` and ``replace``: which hosts vote, changed while the cluster runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click

from shardraft.cli.common import endpoint as endpoint_type
from shardraft.cli.common import target_of, target_options
from shardraft.cli.failures import line_of
from shardraft.cli.operating import Done, Report, for_each, operate, view
from shardraft.cli.status import change_of
from shardraft.cli.view import ClusterView, ShardView
from shardraft.errors import Conflict, DeadlineExceeded, InvalidArgument, ShardraftError
from shardraft.types import NO_HOST, Endpoint, HostId, ShardId

if TYPE_CHECKING:
    from shardraft_router import Router

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

LOOK_SECONDS: Final = 0.25
"""How often the progress of a change is looked at."""
WITHIN_SECONDS: Final = 600.0
FORGET_ATTEMPTS_MAX: Final = 8

host_id = click.IntRange(1, 2**32 - 1)


@attrs.frozen(slots=True)
class Wish:
    """What is asked of each shard; 0 is no host. ``endpoint`` is where the new host listens, if that is told."""

    add: HostId = NO_HOST
    remove: HostId = NO_HOST
    endpoint: Endpoint | None = None

    def concerns(self, shard: ShardView) -> bool:
        """Whether the shard is not as it should be."""
        members = {*shard.voters, *shard.voters_outgoing, *(each.host for each in shard.staging)}
        if self.add and self.remove:
            return self.remove in members or self.add in members - set(shard.voters)
        return self.remove in members if self.remove else self.add not in shard.voters

    def is_done(self, shard: ShardView) -> bool:
        """Whether the shard is as it should be, and no step is left."""
        joined = not self.add or self.add in shard.voters
        return joined and self.remove not in shard.voters and not shard.is_changing and shard.is_settled

    @property
    def in_words(self) -> str:
        if self.add and self.remove:
            return f"host {self.add} replaces host {self.remove}"
        return f"host {self.add} is added" if self.add else f"host {self.remove} is removed"


class SectionGroup(click.Group):
    """A group that lists its commands in the order in which they were made."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group("member", cls=SectionGroup)
def member_command() -> None:
    """Add, remove or replace hosts while the cluster runs, shard by shard.

    \b
    shardraft member add --host 4 --at 10.0.0.4:7400
    shardraft member replace --host 3 --by 4
    shardraft member remove --host 3

    In each shard a new host first catches up without a vote (staging). Then the voters change, through a joint
    configuration in which both sets have to agree if more than one voter changes. Shards keep working
    meanwhile. A change after which a shard could lose its majority is refused. Start a new host
    first: see shardraft host --join.
    """


def member_options(command: Decorated) -> Decorated:
    """What the three have in common."""
    for option in (
        click.option(
            "--within",
            "within_seconds",
            type=click.FloatRange(0, min_open=True),
            default=WITHIN_SECONDS,
            show_default=True,
            metavar="SECONDS",
            help="How long to watch until all is done. The cluster goes on even after that.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--shard", type=host_id, metavar="N", help="This shard only; without it, all."),
    ):
        command = option(command)
    return target_options(command)


@member_command.command("add")
@click.option("--host", type=host_id, required=True, metavar="ID", help="The new host.")
@click.option("--at", "place", type=endpoint_type, required=True, metavar="HOST:PORT", help="Where it listens.")
@member_options
def add_command(host: HostId, place: Endpoint, **options: Any) -> int:
    """Give a host a vote in every shard, or in one.

    \b
    shardraft member add --host 4 --at 10.0.0.4:7400
    """
    return _change(Wish(add=host, endpoint=place), **options)


@member_command.command("remove")
@click.option("--host", type=host_id, required=True, metavar="ID", help="The host that leaves.")
@member_options
def remove_command(host: HostId, **options: Any) -> int:
    """Take a host's vote in every shard, or in one, and the data that it holds of it.

    \b
    shardraft member remove --host 3

    A host that lost all of its shards is forgotten; then it can be stopped, and its data directory deleted.
    """
    return _change(Wish(remove=host), **options)


@member_command.command("replace")
@click.option("--host", type=host_id, required=True, metavar="OLD", help="The host that leaves; it may be dead.")
@click.option("--by", type=host_id, required=True, metavar="NEW", help="The host that takes its place.")
@click.option("--at", "place", type=endpoint_type, metavar="HOST:PORT", help="Where the new host listens.")
@member_options
def replace_command(host: HostId, by: HostId, place: Endpoint | None, **options: Any) -> int:
    """Put a host in the place of another in every shard of it, never with fewer voters than before.

    \b
    shardraft member replace --host 3 --by 4 --at 10.0.0.4:7400
    """
    if host == by:
        raise click.UsageError("--host and --by are the same host")
    return _change(Wish(add=by, remove=host, endpoint=place), **options)


def _change(
    wish: Wish,
    shard: ShardId | None,
    as_json: bool,
    within_seconds: float,
    endpoints: tuple[str, ...],
    timeout_seconds: float,
) -> int:
    report = Report(as_json=as_json)

    async def change(router: Router) -> int:
        until = time.monotonic() + within_seconds
        shards = _shards_of(await view(router), wish, shard)
        if wish.endpoint is not None:
            await _tell_place(router, wish.add, str(wish.endpoint), report)

        look = Look(router)

        async def one(each: ShardId) -> None:
            await _change_shard(look, each, wish, until, report)

        await for_each(shards, one)
        if wish.remove and shard is None and not report.exit_code:
            await _forget(router, wish.remove, report)
        return report.end()

    return operate(target_of(endpoints, timeout_seconds), change)


def _shards_of(cluster: ClusterView, wish: Wish, shard: ShardId | None) -> list[ShardId]:
    """The shards to change. Raises ``InvalidArgument`` when there is none, or the hosts do not fit."""
    named = [each for each in cluster.shards if shard in (None, each.shard)]
    if not named:
        raise InvalidArgument(f"no host holds shard {shard}" if shard is not None else "no host holds any shard")
    if wish.add and wish.endpoint is None and wish.add not in {host.host for host in cluster.hosts}:
        raise InvalidArgument(f"host {wish.add} cannot be reached: start it (shardraft host --join), or give its place")
    return [each.shard for each in named if wish.concerns(each)]


async def _tell_place(router: Router, host: HostId, place: str, report: Report) -> None:
    untold = await router.admin.place(host, place)
    report.say(f"host {host} listens at {place}")
    for each in untold:
        report.say(f"not told: {each.endpoint} ({line_of(each.error)}); it hears of it when host {host} connects")


async def _forget(router: Router, host: HostId, report: Report) -> None:
    """The host holds nothing any more, so that nobody need connect to it."""
    import trio

    for attempt in range(FORGET_ATTEMPTS_MAX):
        try:
            untold = await router.admin.place(host, "")
            break
        except ShardraftError as error:
            # A follower learns a moment after its leader that the change is done.
            if attempt == FORGET_ATTEMPTS_MAX - 1:
                report.say(f"host {host} is not forgotten everywhere: {line_of(error)}")
                return
        await trio.sleep(LOOK_SECONDS)
    for each in untold:
        report.say(f"not told that host {host} is gone: {each.endpoint} ({line_of(each.error)})")
    report.say(f"host {host} holds nothing any more: it can be stopped")


class Look:
    """How the shards are, looked at by all who watch one together, and no more often than ``LOOK_SECONDS``."""

    def __init__(self, router: Router) -> None:
        import trio

        self.router = router
        self._looking = trio.Lock()
        self._seen = ClusterView((), (), ())
        self._next_at = 0.0

    async def at(self, shard: ShardId, began: float) -> ShardView | None:
        """The shard as it was at some moment after ``began``."""
        import trio

        async with self._looking:
            if self._next_at < began + LOOK_SECONDS or time.monotonic() >= self._next_at:
                await trio.sleep(max(0.0, self._next_at - time.monotonic()))
                self._next_at = time.monotonic() + LOOK_SECONDS
                self._seen = await view(self.router)
        return next((each for each in self._seen.shards if each.shard == shard), None)


async def _change_shard(look: Look, shard: ShardId, wish: Wish, until: float, report: Report) -> None:
    began = time.monotonic()
    report.say(f"shard {shard}: {wish.in_words}")
    try:
        await look.router.admin.change_members(shard, add=wish.add, remove=wish.remove)
        done = await _watch(look, shard, wish, until, report)
    except ShardraftError as error:
        report.failed(f"shard {shard}", {"shard": shard}, error)
        return
    seconds = round(time.monotonic() - began, 3)
    voters = " ".join(map(str, done.voters))
    report.done(
        Done(
            f"shard {shard}: {wish.in_words}, voters {voters} ({seconds:.2f} s)",
            {"shard": shard, "voters": list(done.voters), "seconds": seconds},
        )
    )


async def _watch(look: Look, shard: ShardId, wish: Wish, until: float, report: Report) -> ShardView:
    """Look at the shard until the change is done, and tell each step once."""
    said = ""
    while True:
        found = await look.at(shard, time.monotonic())
        if found is not None and found.leader != NO_HOST and found.is_settled:
            if wish.is_done(found):
                return found
            change = change_of(found)
            if change and change != said:
                report.say(f"shard {shard}: {change}")
                said = change
            elif not change:
                raise Conflict(f"the change was given up: hosts {' '.join(map(str, found.voters))} vote", shard=shard)
        if time.monotonic() >= until:
            raise DeadlineExceeded(f"not done yet ({said or 'no leader is known'}); it goes on", shard=shard)
