"""What every test needs of the process it runs in."""

from __future__ import annotations

import signal

# A shell that starts a run in the background makes it ignore interrupts, and every program the tests start would
# inherit that: those that are to be interrupted would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
