"""The picture of a run: throughput against concurrency, latency percentiles, cost by number of shards."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.harness.histogram import percentiles_ms
from bench.harness.results import Line, Results

CURVE_PERCENTAGES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9)


def draw(results: Results, path: Path, caption: str) -> str:
    """Write the picture to ``path``; the sentence that says so, or why there is none."""
    if find_spec("matplotlib") is None:
        return "No picture: matplotlib is not installed."
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(2, 2, figsize=(15, 12))
    colours = colours_of(results)
    _throughput(places[0][0], results, colours, "puts", "puts per second")
    _throughput(places[0][1], results, colours, "stale-gets", "stale gets per second")
    _latencies(places[1][0], results, colours, "puts-256")
    _shards(places[1][1], results, colours)
    figure.suptitle(caption, fontsize=9)
    _legend(figure, [axes for row in places for axes in row])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return f"Picture: {path}"


def label_of(line: Line) -> str:
    """What stands in a legend: version and promise, as beside every number."""
    return f"{line.outcome.version}\n({line.outcome.promise})"


def colours_of(results: Results) -> dict[str, str]:
    """Each system's colour, the same in every part of the picture."""
    systems = dict.fromkeys(line.outcome.system for line in results)
    return {system: f"C{number % 10}" for number, system in enumerate(systems)}


def series(results: Results, kind: str) -> dict[str, list[tuple[int, Line]]]:
    """Per system, the lines of rows ``kind-N`` with a rate, by N."""
    found: dict[str, list[tuple[int, Line]]] = {}
    for line in results:
        number = re.fullmatch(rf"{kind}-(\d+)", line.outcome.key)
        if number and line.per_second:
            found.setdefault(line.outcome.system, []).append((int(number.group(1)), line))
    return {system: sorted(points, key=lambda point: point[0]) for system, points in found.items()}


def _throughput(axes: Any, results: Results, colours: dict[str, str], kind: str, title: str) -> None:
    for system, points in series(results, kind).items():
        rates = [line.per_second for _, line in points]
        label = label_of(points[0][1])
        axes.plot([number for number, _ in points], rates, marker="o", color=colours[system], label=label)
    axes.set(xscale="log", yscale="log", xlabel="calls in flight", title=title)
    numbers = sorted({number for points in series(results, kind).values() for number, _ in points})
    axes.set_xticks(numbers, labels=[str(number) for number in numbers])
    axes.set_xticks([], minor=True)


def _latencies(axes: Any, results: Results, colours: dict[str, str], key: str) -> None:
    for line in results:
        if line.outcome.key == key and line.measurement is not None:
            values = percentiles_ms(line.measurement.histogram, CURVE_PERCENTAGES)
            if values is not None:
                percentages = [f"{each:g}" for each in CURVE_PERCENTAGES]
                colour = colours[line.outcome.system]
                axes.plot(percentages, values, marker=".", color=colour, label=label_of(line))
    axes.set(yscale="log", xlabel="percentile", ylabel="ms", title="latency of puts, 256 in flight")


def _shards(axes: Any, results: Results, colours: dict[str, str]) -> None:
    points = series(results, "puts-256-shards").get("shardraft", [])
    if points:
        numbers = [f"{number}" for number, _ in points]
        costs = [line.cpu_us_per_operation or 0.0 for _, line in points]
        axes.bar(numbers, costs, color=colours["shardraft"], label=label_of(points[0][1]))
        for place, (_, line) in enumerate(points):
            axes.annotate(f"{line.per_second:,.0f} puts/s", (place, 0), ha="center", va="bottom", color="white")
    axes.set(xlabel="shards", ylabel="server CPU us per put", title="cost by number of shards, puts, 256 in flight")


def _legend(figure: Any, parts: list[Any]) -> None:
    """One legend for all parts, below them, where it hides no line."""
    handles: dict[str, Any] = {}
    for axes in parts:
        axes.grid(visible=True, alpha=0.3)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=4, fontsize=9)
