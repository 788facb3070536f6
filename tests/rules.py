"""The house rules as functions of source text; each returns what is wrong, in words, or nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parent.parent
BASE = frozenset({"types", "errors", "config", "octets"})
KEYS = BASE | {"shards", "kv"}
CORE = KEYS | {"raft", "learner", "meta", "host"}
SHELL = CORE | {"wire", "storage", "transport", "runtime", "server"}
ROUTER_CORE = "router.core"
ROUTER_FACES = "router"

ROOMS: dict[str, frozenset[str]] = {
    "types": frozenset(),
    "errors": frozenset({"types"}),
    "config": frozenset({"types", "errors"}),
    "octets": frozenset(),
    "raft": BASE,
    "shards": BASE,
    "kv": BASE | {"shards"},
    "learner": KEYS | {"raft"},
    "meta": KEYS | {"raft", "learner"},
    "host": CORE,
    "wire": CORE,
    "storage": CORE | {"wire"},
    "transport": CORE | {"wire"},
    "runtime": CORE | {"wire", "storage", "transport"},
    "server": SHELL,
    "sim": CORE | {ROUTER_CORE},
    "cli": SHELL | {"sim", ROUTER_FACES, ROUTER_CORE},
    ROUTER_CORE: KEYS,
    ROUTER_FACES: KEYS | {ROUTER_CORE, "wire"},
}
"""Who may import whom. A room may always import itself and the version in ``shardraft`` itself."""

OF_ALL_ROOMS = frozenset({"shardraft", "shardraft.__version__", "shardraft.build"})
"""What every room may know of the top package."""

PURE = CORE | {"sim", ROUTER_CORE}
"""Rooms without clock, entropy, threads, logging or I/O."""

# fmt: off
IMPURE_MODULES = frozenset({
    "anyio", "asyncio", "capnp", "concurrent", "contextvars", "datetime", "fcntl", "io", "lmdb", "logging",
    "multiprocessing", "os", "pathlib", "queue", "sched", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "trio", "uuid", "warnings",
    "weakref",
})
# fmt: on
IMPURE_CALLS = frozenset({"open", "print", "input", "breakpoint"})
BANNED_WORDS = frozenset({"manager", "helper", "util", "utility", "info", "master", "slave"})
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60


@attrs.frozen(slots=True)
class Module:
    """One source file of the product: its dotted name, its room, its text."""

    name: str
    text: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text)

    @property
    def room(self) -> str:
        return room_of(self.name)


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def room_of(name: str) -> str:
    """The room that a dotted module name of ours belongs to; "" for the top package itself."""
    parts = name.split(".")
    if parts[0] == "shardraft_router":
        return ROUTER_CORE if parts[1:2] == ["core"] else ROUTER_FACES
    return parts[1] if len(parts) > 1 else ""


def product() -> list[Module]:
    """Every module of both packages."""
    found = []
    for base, package in ((ROOT, "shardraft"), (ROOT / "router", "shardraft_router")):
        for path in sorted((base / package).rglob("*.py")):
            parts = list(path.relative_to(base).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            found.append(Module(".".join(parts[: -1 if is_package else None]), path.read_text(), is_package))
    return found


def imports_of(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that ``module`` imports, wherever in it that stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                package = module.name.split(".")
                keep = len(package) - node.level + (1 if module.is_package else 0)
                origin = ".".join([*package[:keep], *([origin] if origin else [])])
            yield node.lineno, origin
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def upward_imports(module: Module) -> list[str]:
    """Imports that do not point down (DESIGN section 2)."""
    if module.name in ("shardraft.__main__", "shardraft"):
        return []
    allowed = ROOMS[module.room] | {module.room}
    problems = []
    for line, name in imports_of(module):
        ours = name.split(".")[0] in ("shardraft", "shardraft_router")
        if ours and name not in OF_ALL_ROOMS and room_of(name) not in allowed:
            problems.append(f"{module.name}:{line} imports {name}: {module.room} may not know {room_of(name)}")
    return problems


def impurities(module: Module) -> list[str]:
    """What a pure room must not contain: clock, entropy, threads, logging, I/O, anything async."""
    problems = []
    imports = [node for node in ast.walk(module.tree) if isinstance(node, ast.Import)]
    has_random = any(alias.name == "random" for node in imports for alias in node.names)
    for line, name in imports_of(module):
        top, _, rest = name.partition(".")
        if top in IMPURE_MODULES or (top == "random" and rest not in ("", "Random")):
            problems.append(f"{module.name}:{line} imports {name}")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            problems.append(f"{module.name}:{node.lineno} is asynchronous")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            problems.append(f"{module.name}:{node.lineno} calls {node.func.id}")
        elif has_random and _is_global_random(node):
            problems.append(f"{module.name}:{node.lineno} draws from the global random generator")
    return problems


def _is_global_random(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
        and node.attr != "Random"
    )


def reachable(start: str, modules: dict[str, Module]) -> dict[str, str]:
    """Every module that importing ``start`` loads, and by whom: those of ours are walked, others are named.

    Imports under ``if TYPE_CHECKING`` load nothing and are left out.
    """
    found = {start: ""}
    waiting = [start]
    while waiting:
        module = modules.get(name := waiting.pop())
        if module is None:
            continue
        quiet = {
            inner
            for node in ast.walk(module.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for inner in range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1)
        }
        for line, target in imports_of(module):
            known = [".".join(target.split(".")[:end]) for end in range(1, target.count(".") + 2)]
            ours = [each for each in known if each in modules]
            for each in ours or known[:1]:
                if line not in quiet and each not in found:
                    found[each] = name
                    waiting.append(each)
    return found


def too_long(name: str, text: str) -> list[tuple[str, int]]:
    """The file and functions above the limits, as (name, lines)."""
    lines = text.count("\n")
    problems = [(name, lines)] if lines > FILE_LINES_MAX else []
    for scope, node in _functions(_parse(text)):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES_MAX:
            problems.append((f"{name}:{scope}", length))
    return problems


def _functions(
    tree: ast.AST, scope: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        inner = scope
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                yield inner, node
        yield from _functions(node, inner)


def words_of(identifier: str) -> list[str]:
    """``HTTPServerInfo_x`` -> http, server, info, x."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)]


def banned_names(name: str, text: str) -> list[str]:
    """Identifiers that a file defines and that hold a banned word; names of other libraries are theirs."""
    tree = _parse(text)
    defined: list[tuple[int, str]] = [(1, part) for part in name.split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.append((node.lineno, node.name))
        elif isinstance(node, ast.arg):
            defined.append((node.lineno, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            defined.append((node.lineno, node.attr))
        elif isinstance(node, ast.alias) and node.asname:
            defined.append((node.lineno, node.asname))
    return [
        f"{name}:{line} {identifier}"
        for line, identifier in defined
        if any(word in BANNED_WORDS or word.removesuffix("s") in BANNED_WORDS for word in words_of(identifier))
    ]


def bare_excepts(name: str, text: str) -> list[str]:
    """``except:`` catches even what ends a program or a trio task."""
    return [
        f"{name}:{node.lineno}"
        for node in ast.walk(_parse(text))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def sleeps(name: str, text: str) -> list[str]:
    """Calls of anything named ``sleep``: a test that sleeps is slow on a fast machine and wrong on a slow one."""
    return [
        f"{name}:{node.lineno}"
        for node in ast.walk(_parse(text))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) or getattr(node.func, "id", None)) in ("sleep", "sleep_until")
    ]


def silent_packages(module: Module) -> list[str]:
    """Packages whose docstring does not say what the room never does."""
    if not module.is_package or "." not in module.name:
        return []
    said = ast.get_docstring(module.tree) or ""
    return [] if "never" in said else [f"{module.name} does not say what it never does"]
