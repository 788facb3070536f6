"""What is compiled, and that it keeps to what compiles rightly."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from compiling.rooms import LEFT_AS_THEY_ARE, PACKAGES, ROOMS, compiled_modules
from tests.rules import ROOT

WITHOUT_EFFECT = frozenset({"len", "min", "max"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The packages side by side, as in a wheel."""
    for package, place in PACKAGES.items():
        (tmp_path / package).symlink_to(ROOT / place)
    return tmp_path


def bounds_with_effects(text: str) -> list[str]:
    """Slices whose bounds call something: mypyc 2.4 works out those of a memoryview twice."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            called = [part.func for part in ast.walk(node.slice) if isinstance(part, ast.Call)]
            if {ast.unparse(function) for function in called} - WITHOUT_EFFECT:
                found.append(ast.unparse(node))
    return found


def test_every_exception_is_a_module_of_a_compiled_room() -> None:
    for path in LEFT_AS_THEY_ARE:
        package, _, rest = path.partition("/")
        assert (ROOT / PACKAGES[package] / rest).exists()
        assert any(path.startswith(room) for room in ROOMS)


def test_what_is_compiled_is_every_other_module_of_the_rooms(tree: Path) -> None:
    modules = set(compiled_modules(tree))
    assert {"shardraft/raft/core.py", "shardraft/types.py", "shardraft_router/core/core.py"} <= modules
    assert not modules & LEFT_AS_THEY_ARE.keys()
    assert not any(path.endswith("__init__.py") for path in modules)


def test_nothing_that_is_compiled_waits(tree: Path) -> None:
    """mypyc 2.4 compiles async functions, but a cancellation that ends a task group within one goes further than it."""
    for path in compiled_modules(tree):
        nodes = ast.walk(ast.parse((tree / path).read_text()))
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in nodes), path


def test_no_bound_of_a_slice_does_anything(tree: Path) -> None:
    modules = compiled_modules(tree)
    assert [found for path in modules for found in bounds_with_effects((tree / path).read_text())] == []
    assert bounds_with_effects("view = view[write(view) :]") == ["view[write(view):]"]
