"""The benchmark: shardraft and whatever of its peers is installed, side by side.

    python -m bench [--quick] [--systems shardraft,etcd] [--only puts,gets] [--out bench/out]

Exit code 1 when a row failed, timed out, or read back something else than was written.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import attrs

from bench.harness.machine import describe_machine
from bench.harness.picture import draw
from bench.harness.plan import FULL, QUICK, make_plan
from bench.harness.ports import System
from bench.harness.results import Line, Results
from bench.harness.rows import Block, Outcome
from bench.harness.runner import run_blocks
from bench.harness.table import print_table
from bench.harness.targets import targets_of
from bench.systems import all_systems

DEFAULT_OUT = Path(__file__).resolve().parent / "out"


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    scale = QUICK if options.quick else FULL
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    systems, sentences = usable(all_systems(), options.systems.split(",") if options.systems else [])
    plan = make_plan(scale, systems, kinds=options.only.split(",") if options.only else ())
    begun = time.monotonic()
    machine = describe_machine(out)
    print(machine)
    for sentence in sentences:
        print(sentence)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=out))
    outcomes = run_blocks(
        plan, systems, directory, seconds_max=60 * scale.minutes_max, report=lambda *seen: _say(len(plan), *seen)
    )
    results = Results(outcomes)
    minutes = (time.monotonic() - begun) / 60
    caption = f"{machine} The run took {minutes:.1f} minutes."
    promises = [f"{name}: {systems[name].promise_in_full}" for name in {line.outcome.system: None for line in results}]
    name = "quick" if options.quick else "full"
    saved = [save(results, out / f"{name}.json", caption, sentences), draw(results, out / f"{name}.png", caption)]
    print_table(results, [*promises, *sentences, caption, *saved])
    if not results.failed:
        shutil.rmtree(directory, ignore_errors=True)
        return 0
    print(f"{len(results.failed)} rows FAILED; what the servers said is in {directory}", file=sys.stderr)
    return 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="shardraft and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rows: five minutes instead of 45")
    parser.add_argument("--systems", help="only these, by name and comma: " + ", ".join(all_systems()))
    parser.add_argument("--only", help="only rows whose names begin so: puts, gets, stale-gets, ycsb, failover, ...")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="where picture, JSON and data go")
    return parser.parse_args(arguments)


def usable(systems: dict[str, System], wanted: list[str]) -> tuple[dict[str, System], list[str]]:
    """The systems that can run here, and a sentence for each that is skipped."""
    unknown = set(wanted) - set(systems)
    if unknown:
        sys.exit(f"error: there is no system called {', '.join(sorted(unknown))}")
    found: dict[str, System] = {}
    sentences = []
    for name, system in systems.items():
        if wanted and name not in wanted:
            continue
        reason = system.missing()
        if reason is None:
            found[name] = system
        else:
            sentences.append(f"{name} is skipped: {reason}.")
    return found, sentences


def _say(blocks: int, block: Block, outcome: Outcome) -> None:
    """One line as soon as a row is done, so that a long run shows that it lives."""
    found = outcome.measurement
    what = f"FAILED: {outcome.failure}" if found is None else "done"
    if found is not None and found.operations and found.seconds:
        what = f"{found.operations / found.seconds:,.0f} {outcome.unit}/s"
    version = outcome.version or outcome.system
    print(f"[{block.number}/{blocks}] {outcome.workload}; {version}; {outcome.promise}: {what}", flush=True)


def save(results: Results, path: Path, caption: str, sentences: list[str]) -> str:
    """Write everything as JSON; the sentence that says so."""
    lines = [_line_json(line, results) for line in results]
    path.write_text(json.dumps({"run": caption, "skipped": sentences, "rows": lines}, indent=1) + "\n")
    return f"JSON: {path}"


def _line_json(line: Line, results: Results) -> dict[str, object]:
    targets = [
        {"text": target.text, "bound": target.bound, "at_least": target.at_least, "value": target.value(results)}
        for target in targets_of(line.outcome.key, line.outcome.system)
    ]
    computed = {
        "per_second": line.per_second,
        "per_second_by_round": line.rounds,
        "percentiles_ms": dict(zip(("p50", "p99", "p99.9"), line.percentiles or (), strict=False)),
        "cpu_us_per_operation": line.cpu_us_per_operation,
        "disk_bytes_per_operation": line.disk_bytes_per_operation,
        "cores": line.cores,
    }
    fields = {name: value for name, value in line.outcome.to_json().items() if name not in ("measurement", "failure")}
    sums = attrs.asdict(line.measurement) if line.measurement else None
    return fields | {"failure": line.failure, "sums": sums, "targets": targets} | computed


if __name__ == "__main__":
    sys.exit(main())
