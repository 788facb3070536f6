"""Runs mypyc and the C compiler over a tree that is laid out like a wheel."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mypyc.build import mypycify
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

OPTIMIZATION: Final = "1"
"""gcc's level. Two takes two thirds longer to compile and is not measurably faster (bench/WHERE_A_PUT_GOES.md)."""

GROUP: Final = "shardraft"
"""The name of the one library that holds all modules, so that their calls of each other are C calls."""

CHECKED_BEFORE: Final = ("misc", "arg-type", "no-any-return", "attr-defined")
"""What mypy cannot follow in plain values (``attrs.evolve``); the source passes ``mypy --strict`` with all of it."""


class ParallelBuild(build_ext):
    """Compiles the C files of one library on all cores, and only those that changed."""

    def build_extensions(self) -> None:
        compiler: Any = self.compiler
        # setuptools runs several extensions at a time, but the files of one after each other.
        compiler.compile = _parallel(compiler)
        super().build_extensions()


def _parallel(compiler: Any) -> Callable[..., list[str]]:
    def compile_all(
        sources: list[str],
        output_dir: str | None = None,
        macros: Any = None,
        include_dirs: Any = None,
        debug: bool = False,
        extra_preargs: Any = None,
        extra_postargs: Any = None,
        depends: Any = None,
    ) -> list[str]:
        _, objects, postargs, flags, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = compiler._get_cc_args(flags, debug, extra_preargs)

        def one(made: str) -> None:
            source, suffix = build[made]
            if not _is_newer(made, source):
                compiler._compile(made, source, suffix, arguments, postargs, flags)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, objects))
        made_objects: list[str] = objects
        return made_objects

    return compile_all


def _is_newer(made: str, source: str) -> bool:
    """Whether an object is newer than its C file and all headers, which say how classes are laid out."""
    if not Path(made).exists():
        return False
    sources = [Path(source), *Path(source).parent.glob("*.h")]
    return Path(made).stat().st_mtime > max(path.stat().st_mtime for path in sources)


def _settings() -> str:
    """A name for what objects depend on besides their C files: the interpreter and the level of optimization."""
    return hashlib.sha256(f"{sys.version} {OPTIMIZATION}".encode()).hexdigest()[:12]


def compile_in_place(tree: Path, modules: list[str], in_c: Sequence[str], scratch: Path) -> None:
    """Put a compiled module beside each of ``modules`` and of those ``in_c``, which are relative to ``tree``.

    ``scratch`` keeps what a next run can use again. Raises what mypyc and setuptools raise: a ``SystemExit`` after the
    errors were printed, or a compiler's error.
    """
    scratch /= _settings()
    flags = ["--config-file=", "--ignore-missing-imports", f"--cache-dir={scratch / 'mypy'}"]
    flags += [f"--disable-error-code={code}" for code in CHECKED_BEFORE]
    before = Path.cwd()
    os.chdir(tree)
    try:
        extensions = mypycify(
            [*flags, *modules],
            opt_level=OPTIMIZATION,
            debug_level="0",
            multi_file=True,
            group_name=GROUP,
            target_dir=str(scratch / "c"),
        )
        for source in in_c:
            name = ".".join(Path(source).with_suffix("").parts)
            extensions.append(Extension(name, [source], extra_compile_args=["-pthread", "-Wall", "-Werror"]))
        distribution = Distribution({"name": "shardraft", "ext_modules": extensions})
        command = ParallelBuild(distribution)
        command.inplace = True
        command.build_lib = str(scratch / "library")
        command.build_temp = str(scratch / "objects")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
