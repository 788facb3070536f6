"""Where the CPU time of puts goes: microseconds per put and thread, and what the threads were seen doing.

Starts a cluster of its own, takes the CPU time of every thread from the kernel, then samples the leader, a follower
and this client with py-spy. ``WHERE_A_PUT_GOES.md`` says what was found with it.

    python -m bench.profile_puts [--shards 1] [--in-flight 256] [--seconds 8] [--out bench/out]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import anyio

from bench.__main__ import DEFAULT_OUT
from bench.harness.keys import value_of
from bench.harness.launching import find_program, output_of
from bench.harness.load import Operation, run_load
from bench.harness.rows import Cluster
from bench.harness.stage import Stage
from bench.systems.shardraft import Shardraft, ShardraftServers

WARM_UP_SECONDS = 3.0
SAMPLES_PER_SECOND = 100
FUNCTIONS_SHOWN = 30


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile_puts", description="Where the CPU time of puts goes."
    )
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    if find_program("py-spy") is None:
        print("error: py-spy is not installed (PyPI py-spy)", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="profile-", dir=options.out) as directory:
        system = Shardraft("shardraft", "trio")
        servers = system.start(Path(directory), Cluster(shards=options.shards))
        assert isinstance(servers, ShardraftServers)
        try:
            anyio.run(_profile, system, servers, options, backend=system.loop)
        finally:
            servers.stop()
    return 0


async def _profile(system: Shardraft, servers: ShardraftServers, options: argparse.Namespace) -> None:
    client = await system.connect(servers)
    stage = Stage(system, servers, client)
    leader = await servers.leader_of_first_shard()
    follower = next(name for name in servers.names if name != leader)
    roles = {"leader": servers.pid_of(leader), "follower": servers.pid_of(follower), "router": os.getpid()}

    async def put() -> int:
        key = stage.keys.take()
        await client.put(key, value_of(key))
        return 1

    await run_load(put, options.in_flight, WARM_UP_SECONDS)
    names = {role: thread_names(pid) for role, pid in roles.items()}
    before = {role: thread_seconds(pid) for role, pid in roles.items()}
    load = await run_load(put, options.in_flight, options.seconds)
    after = {role: thread_seconds(pid) for role, pid in roles.items()}
    print(f"{load.operations / load.seconds:,.0f} puts/s, {options.in_flight} in flight; {system.version()}; ", end="")
    print(f"{system.subject(servers.cluster)}; {system.promise}; load average {os.getloadavg()[0]:.1f}")
    for role in roles:
        spent: defaultdict[str, float] = defaultdict(float)
        for thread, seconds in after[role].items():
            spent[names[role].get(thread, "other")] += seconds - before[role].get(thread, 0.0)
        for name, seconds in spent.items():
            print(f"  {role:<9}{name:<18}{1e6 * seconds / load.operations:8.2f} us of CPU per put")
    await _sample(roles, put, options)
    await client.close()


async def _sample(roles: dict[str, int], put: Operation, options: argparse.Namespace) -> None:
    """The same load again under py-spy; its raw stacks stay in ``--out`` for a flame graph."""
    program = find_program("py-spy")
    assert program is not None, "asked for above"
    paths = {role: options.out / f"puts-{role}.stacks" for role in roles}
    sampling = []
    for role, pid in roles.items():
        command = [program, "record", "-p", str(pid), "-d", str(round(options.seconds)), "-r", str(SAMPLES_PER_SECOND)]
        command += ["--threads", "--format", "raw", "-o", str(paths[role])]
        sampling.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    await run_load(put, options.in_flight, options.seconds + 2)
    for process in sampling:
        process.wait()
    for role, path in paths.items():
        for thread, (total, counts) in stacks_by_thread(path.read_text()).items():
            print(f"{role}, {thread}: share of its {total} samples, callees included")
            # What is in every sample is only how the thread was started.
            telling = [(function, count) for function, count in counts.most_common() if count < total]
            for function, count in telling[:FUNCTIONS_SHOWN]:
                print(f"  {count / total:6.1%}  {function}")


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of a process, by the kernel's thread id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def thread_names(pid: int) -> dict[int, str]:
    """What Python calls the threads of a process, and the kernel those that Python does not know."""
    names = {int(task.name): (task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}
    program = find_program("py-spy")
    assert program is not None, "asked for at the start"
    threads = json.loads(output_of(program, "dump", "--json", "-p", str(pid)))
    return names | {thread["os_thread_id"]: thread["thread_name"] for thread in threads}


def stacks_by_thread(text: str) -> dict[str, tuple[int, Counter[str]]]:
    """From py-spy's raw stacks: for each thread its samples, and in how many of them each function was."""
    found: dict[str, tuple[int, Counter[str]]] = {}
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        thread = next((frame.partition(": ")[2] for frame in frames if frame.startswith("thread")), "only thread")
        functions = {frame.rpartition(":")[0] + ")" for frame in frames if ".py:" in frame}
        total, counts = found.setdefault(thread, (0, Counter()))
        counts.update(dict.fromkeys(functions, int(samples)))
        found[thread] = (total + int(samples), counts)
    return found


if __name__ == "__main__":
    sys.exit(main())
