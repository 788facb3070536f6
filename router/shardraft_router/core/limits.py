"""Every limit and interval of a router, with its unit in its name (PROTOCOL, "Defaults")."""

from __future__ import annotations

import attrs
from attrs.validators import gt, instance_of


def _positive(default: int) -> int:
    field: int = attrs.field(default=default, validator=[instance_of(int), gt(0)])
    return field


@attrs.frozen(slots=True, kw_only=True)
class RouterLimits:
    """What a router sends at most, and how long it waits. The sizes must not exceed the hosts' own."""

    key_bytes_max: int = _positive(480)
    """The user's key; a longer one is refused as InvalidArgument before anything is sent."""
    value_bytes_max: int = _positive(1 << 20)
    """A larger value is refused as TooLarge before anything is sent."""
    batch_operations_max: int = _positive(4096)
    """Operations of one batch. Coalescing goes on in the next batch; a caller's own batch is TooLarge."""
    batch_bytes_max: int = _positive(4 << 20)
    """Keys and values of a caller's own all-or-nothing batch; a larger one is TooLarge."""
    coalesced_bytes_max: int = _positive(1 << 20)
    """Keys and values of a coalesced batch (one operation may be larger); what is beyond goes in the next."""
    batches_in_flight_max: int = _positive(6)
    """Batches per shard sent and not settled; at it, what arrives waits and makes the next batch larger."""
    paced_operations_min: int = _positive(16)
    """With so many operations of a kind under way, further ones wait for their replies (see ``pacing``)."""
    paced_ms_min: int = _positive(10)
    """They wait at least this long after the last request left for what it asks; then they are sent beside it."""
    paced_ms_max: int = _positive(100)
    """They wait at most this long, however slowly hosts answer."""
    session_window_max: int = _positive(512)
    """Sequences between the oldest unanswered batch of a session and the newest; at it, what arrives waits."""
    read_keys_max: int = _positive(4096)
    """Keys of one read request; the rest goes in the next."""
    reads_in_flight_max: int = _positive(6)
    """Read requests per shard sent and not answered; at it, what arrives waits and makes the next larger."""
    pages_in_flight_max: int = _positive(64)
    """Pages that one scan asks for ahead of its consumer."""
    page_entries_max: int = _positive(1024)
    """Entries of one page of a scan."""
    page_keys_max: int = _positive(128)
    """Keys of one page when an ordered scan merges slots."""
    timeout_ms_max: int = _positive(60_000)
    """A call's timeout; a longer one is InvalidArgument."""
    silence_ms_max: int = _positive(1_500)
    """A host that says nothing at all for this long while something waits for its answer is given up and dropped."""
    unanswered_ms_max: int = _positive(4_000)
    """A request unanswered for this long, by a host that answers others, counts as lost and is sent again."""
    back_off_ms_min: int = _positive(5)
    """The first wait after a failure; it doubles with each further one, and each wait is jittered."""
    back_off_ms_max: int = _positive(200)
    """The longest wait between two attempts."""
    redirects_max: int = _positive(4)
    """Leader hints followed at once; after these a hint is followed only after a wait."""
    map_refresh_ms: int = _positive(30_000)
    """While calls go on, a host is asked this often for the map: hosts come and go without any call failing."""
    learners_max: int = _positive(4)
    """Learners to which a router keeps connections for stale reads."""
    learners_refresh_ms: int = _positive(5_000)
    """While stale reads go on, hosts are asked this often which learners there are."""
    cancelled_calls_max: int = _positive(256)
    """Cancelled calls that still hold memory in queues; at it all queues are swept."""
