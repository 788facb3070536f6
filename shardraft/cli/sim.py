"""``shardraft sim``: the simulated world, run from a seed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import click

from shardraft.cli.common import SHARDS_MAX, host_count, print_json, tiers
from shardraft.cli.failures import EXIT_REFUSED
from shardraft.cli.reporting import counting, portion

if TYPE_CHECKING:
    from shardraft.sim.options import SimulationOptions
    from shardraft.sim.report import Report


def _fault_numbers(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        numbers = () if text == "none" else tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        numbers = (0,)
    if any(number < 1 for number in numbers):
        raise click.BadParameter(f'"{text}" is neither "none" nor numbers of faults, such as 3,17')
    return numbers


def _kinds(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))


@click.command("sim")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="What happens follows from it.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, metavar="COUNT", help="So many seeds, from --seed on.")
@click.option("--hosts", type=host_count, default="3", show_default=True, metavar="1|3|5", help="Voter hosts.")
@click.option(
    "--spares",
    type=click.IntRange(0, 8),
    default=0,
    show_default=True,
    help="Further hosts; voters come and go then.",
)
@click.option("--shards", type=click.IntRange(1, SHARDS_MAX), default=2, show_default=True, help="Shards.")
@click.option("--learners", type=tiers, default="1,1", show_default=True, metavar="N,N,...", help="Learners per tier.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Simulated time with faults; then everything is healed and must recover.",
)
@click.option("--trace", is_flag=True, help="Print who sent what to whom, what changed, and every fault.")
@click.option("--shrink", is_flag=True, help="If the seed breaks a promise, look for the fewest faults that do it.")
@click.option(
    "--only-faults",
    callback=_fault_numbers,
    metavar="N,N,...|none",
    help="Let only these of the seed's faults strike, by their numbers in its trace.",
)
@click.option(
    "--kinds",
    callback=_kinds,
    metavar="NAME,NAME,...",
    help='Only faults of these kinds, named as in the report: "crash leader,slow disk". Default: the seed chooses.',
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per seed.")
def sim_command(
    seed: int,
    seeds: int,
    hosts: int,
    spares: int,
    shards: int,
    learners: tuple[int, ...],
    seconds: float,
    trace: bool,
    shrink: bool,
    only_faults: tuple[int, ...] | None,
    kinds: tuple[str, ...] | None,
    as_json: bool,
) -> int:
    """Run a cluster in the simulated world and check its promises.

    The hosts are the real ones; clock, network and disks are simulated and fail as the seed says. Equal
    options give equal trace hashes. A broken promise ends with exit code 1 and how to see it again.
    """
    from shardraft.runtime.collector import spare_the_collector
    from shardraft.sim.options import SimulationOptions

    spare_the_collector()
    failed = 0
    for number in range(seed, seed + seeds):
        options = SimulationOptions(
            seed=number,
            hosts=hosts,
            spares=spares,
            shards=shards,
            learners=learners,
            seconds=seconds,
            only_faults=only_faults,
            kinds=kinds,
        )
        report = _shrink(options) if shrink else _run(options, print if trace else None)
        if report is None:
            failed += 1
        elif as_json:
            print_json(attrs.asdict(report))
        elif seeds > 1:
            print(f"seed {number}: trace hash {report.trace_hash}, {report.events} events, {report.faults} faults")
        else:
            print("\n".join(report.lines()))
    if seeds > 1:
        print(f"{seeds - failed} of {seeds} seeds kept every promise", file=sys.stderr)
    return EXIT_REFUSED if failed else 0


def _shrink(options: SimulationOptions) -> Report | None:
    """The report of a simulation that keeps every promise, or None after saying how little it takes to break one."""
    from shardraft.sim.shrink import shrink

    with counting("worlds tried") as tried:
        shrunk = shrink(options, lambda runs, left: tried(runs, f"{left} faults left"))
    if shrunk is None:
        return _run(options, None)
    left = len(shrunk.options.only_faults or ())
    print(f"{shrunk.struck} faults shrunk to {left} in {shrunk.runs} runs", file=sys.stderr)
    print(f"error: {shrunk.failure}", file=sys.stderr)
    return None


def _run(options: SimulationOptions, listener: Callable[[str], None] | None) -> Report | None:
    """The report of one simulation, or None after saying which promise was broken."""
    from shardraft.sim.failure import SimulationFailure
    from shardraft.sim.run import simulate

    try:
        with portion(f"seed {options.seed}") as progress:
            return simulate(options, progress, listener)
    except SimulationFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return None
