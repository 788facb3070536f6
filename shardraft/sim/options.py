"""What a simulated world is made of, and how a seed varies what is left open."""

from __future__ import annotations

from random import Random

import attrs

from shardraft.config import HostConfig, Limits, RaftConfig
from shardraft.sim.workload import WorkloadOptions
from shardraft_router.core import RouterLimits


@attrs.frozen(slots=True, kw_only=True)
class SimulationOptions:
    """One simulation. ``learners``: how many learners per tier, nearest to the voters first.

    ``spares`` are further hosts, outside every shard at first: members change among the faults where there are any.
    ``faults`` off gives a world in which nothing breaks; ``only_faults`` names, by their numbers, those of the
    seed's faults that strike, where not all of them shall; ``kinds`` names the kinds of faults, as reports call
    them, where the seed shall not choose. ``config`` and ``workload``
    None let the seed choose: limits small enough that logs are compacted and copies sent within seconds.
    """

    seed: int
    hosts: int = 3
    spares: int = 0
    shards: int = 2
    learners: tuple[int, ...] = (1, 1)
    seconds: float = 20.0
    faults: bool = True
    only_faults: tuple[int, ...] | None = None
    kinds: tuple[str, ...] | None = None
    config: HostConfig | None = None
    workload: WorkloadOptions | None = None

    @property
    def replay(self) -> str:
        """The command that runs this simulation again."""
        command = f"shardraft sim --seed {self.seed} --hosts {self.hosts} --seconds {self.seconds:g}"
        default = type(self)(seed=self.seed)
        if self.spares:
            command += f" --spares {self.spares}"
        if self.shards != default.shards:
            command += f" --shards {self.shards}"
        if self.learners != default.learners:
            command += f" --learners {','.join(str(count) for count in self.learners) or '0'}"
        if self.kinds is not None:
            command += f' --kinds "{",".join(self.kinds)}"'
        if self.only_faults is not None:
            command += f" --only-faults {','.join(map(str, self.only_faults)) or 'none'}"
        return command


def vary_config(random: Random) -> HostConfig:
    """Limits at which everything happens within seconds: flushes, compactions, copies, full windows."""
    pick = random.choice
    return HostConfig(
        raft=RaftConfig(
            append_entries_max=pick((1, 4, 1024)),
            commit_push_ms=pick((0, 2, 40)),
            in_flight_messages_max=pick((1, 4, 256)),
            log_cache_bytes_max=pick((1_000, 100_000, 8 << 20)),
            uncommitted_bytes_max=pick((2_000, 64 << 20)),
            preferred_after_ms=pick((300, 5_000)),
            lease_ms=pick((0, 400)),
            rho_ppm=pick((1_000, 100_000)),
        ),
        limits=Limits(
            turns_in_flight_max=pick((1, 2, 4)),
            apply_entries_max=pick((1, 16, 256)),
            turn_events_max=pick((2, 1024)),
            log_bytes_max=pick((4_000, 20_000, 1 << 20)),
            write_buffer_bytes_max=pick((3_000, 50_000, 32 << 20)),
            flush_age_ms_max=pick((50, 500, 5_000)),
            hash_check_entries=pick((1, 16, 256)),
            session_window_max=pick((16, 1024)),
            log_held_bytes_max=pick((4_000, 100_000, 1 << 30)),
            log_hold_ms_max=pick((200, 2_000)),
            copies_max=pick((1, 2)),
            copy_bytes_per_second_max=pick((0, 100_000, 64 << 20)),
            copy_chunks_in_flight_max=pick((1, 4)),
            copy_keep_ms=pick((200, 10_000)),
            copy_order_ms_max=pick((200, 2_000)),
            copy_retry_ms=pick((50, 300)),
            copy_silence_ms_max=pick((500, 2_000)),
            feed_bytes_in_flight_max=pick((2_000, 4 << 20)),
        ),
    )


def vary_router(random: Random, config: HostConfig) -> RouterLimits:
    """A client's limits: patient or not, with few batches under way or many, paced or not."""
    return RouterLimits(
        session_window_max=min(512, config.limits.session_window_max),
        silence_ms_max=random.choice((80, 300, 2_500)),
        unanswered_ms_max=random.choice((500, 10_000)),
        batches_in_flight_max=random.choice((1, 6)),
        batch_operations_max=random.choice((2, 4096)),
        paced_operations_min=random.choice((1, 2, 16)),
        paced_ms_min=random.choice((1, 10, 100)),
        back_off_ms_max=random.choice((20, 300)),
        map_refresh_ms=random.choice((300, 30_000)),
    )


def vary_workload(random: Random) -> WorkloadOptions:
    """Few clients or many, hot keys or cold ones, callers in a hurry or not."""
    clients, tasks = random.choice((2, 4, 6)), random.choice((1, 2, 5))
    return WorkloadOptions(
        clients=clients,
        tasks=tasks,
        think_ms=20 * clients * tasks,
        hot=random.choice((0.3, 0.9)),
        hurry=random.choice((0.05, 0.5)),
        hurry_ms=random.choice((50, 600, 2_500)),
    )
