"""Compile both packages into a directory: ``python -m compiling build/compiled [--scratch build/compiling]``."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from compiling.tree import bring_up_to_date, is_up_to_date

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m compiling", description="Both packages, compiled with mypyc.")
    parser.add_argument("into", type=Path, help="where they go; what is there is removed")
    parser.add_argument("--scratch", type=Path, default=ROOT / "build" / "compiling", help="kept for the next run")
    given = parser.parse_args()
    begun = time.perf_counter()
    if shutil.which("cc") is None:
        parser.error("there is no C compiler: install gcc (on Debian: apt-get install gcc python3-dev)")
    into = given.into.resolve()
    if not is_up_to_date(ROOT, into):
        print("compiling what changed since the last time; all of it takes three minutes", flush=True)
    made = bring_up_to_date(ROOT, into, given.scratch.resolve())
    print(f"{len(made) - 1} compiled modules in {given.into}, in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
