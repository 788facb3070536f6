"""A compiled tree: both packages as a wheel lays them out, from the sources they were made of."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from compiling.compiler import compile_in_place
from compiling.rooms import PACKAGES, SCHEMA, WRITTEN_IN_C, compiled_modules
from compiling.values import Plain

SUFFIX: Final = ".so"
DESCRIBED: Final = Path("shardraft", "_described.py")
STAMP: Final = "made-of"
"""The file in a tree that says what it was made of."""


def bring_up_to_date(root: Path, into: Path, scratch: Path) -> list[Path]:
    """Have the packages under ``root`` compiled in ``into``; nothing is done when they are.

    Returns what a compiled wheel holds beside the Python modules, relative to ``into``. ``scratch`` keeps what the next
    run can use again; of several processes that share it one works at a time. Raises what ``compile_in_place`` raises.
    """
    with _alone(scratch):
        if not is_up_to_date(root, into):
            _make_tree(root, into, scratch)
            (into / STAMP).write_text(_digest(root))
    return [DESCRIBED, *(path.relative_to(into) for path in sorted(into.rglob(f"*{SUFFIX}")))]


def is_up_to_date(root: Path, into: Path) -> bool:
    """Whether ``into`` was made of what is under ``root`` now, by this interpreter."""
    stamp = into / STAMP
    return stamp.exists() and stamp.read_text() == _digest(root)


@contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(root: Path) -> str:
    """What a tree depends on: the interpreter, this room, and every source."""
    digest = hashlib.sha256(sys.version.encode())
    places = [root / place for place in (*PACKAGES.values(), SCHEMA)]
    for place in [Path(__file__).parent, *places]:
        for path in sorted(place.rglob("*")):
            if path.suffix in (".py", ".c", ".capnp", ".typed"):
                digest.update(f"{path.relative_to(place)} {path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_tree(root: Path, into: Path, scratch: Path) -> None:
    """The Python modules beside the compiled ones are those of the source tree, for tracebacks and for readers."""
    work = scratch / "tree"
    for directory in (work, into):
        shutil.rmtree(directory, ignore_errors=True)
        _copy_packages(root, directory)
        shutil.copy(Path(__file__).with_name("described.py"), directory / DESCRIBED)
    modules = compiled_modules(work)
    plain = Plain()
    for module in modules:
        plain.rewrite(work / module)
    compile_in_place(work, modules, WRITTEN_IN_C, scratch)
    for path in sorted(work.rglob(f"*{SUFFIX}")):
        shutil.copy(path, into / path.relative_to(work))


def _copy_packages(root: Path, into: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", f"*{SUFFIX}")
    for package, place in PACKAGES.items():
        shutil.copytree(root / place, into / package, ignore=ignored)
    shutil.copytree(root / SCHEMA, into / "shardraft" / "schema")
