"""Writes attrs' classes as plain ones, which mypyc makes native classes of.

mypyc leaves a class as an ordinary Python class when a decorator it does not know may change it, and
``attrs.frozen`` is one. So the same constructor, equality, hash and words are written out. Fields of
frozen classes become ``Final``, which native classes refuse to set as attrs' do.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

KINDS: Final = {"attrs.frozen": True, "attrs.define": False}
"""The decorators that make values, and whether those are frozen."""

HEAD: Final = "from __future__ import annotations"
IMPORTS: Final = "from typing import Final; from shardraft._described import MADE as _MADE, describe as _describe"


class UnknownForm(Exception):
    """A class uses attrs in a way that this room has no plain form for."""


@attrs.frozen(slots=True)
class Field:
    """One field; ``default`` and ``factory`` are source text, at most one of them is given."""

    name: str
    annotation: str
    default: str | None
    factory: str | None
    init: bool
    eq: bool
    repr: bool
    kw_only: bool
    lines: tuple[int, int]

    @property
    def argument(self) -> str:
        return self.name.lstrip("_")

    def parameter(self) -> str:
        """This field in the signature of ``__init__``."""
        if self.factory is not None:
            return f"{self.argument}: {self.annotation} | None = None"
        return f"{self.argument}: {self.annotation}" + (f" = {self.default}" if self.default is not None else "")

    def assignment(self) -> str:
        """This field in the body of ``__init__``."""
        if self.factory is not None:
            return f"self.{self.name} = {self.argument} if {self.argument} is not None else {self.factory}()"
        return f"self.{self.name} = {self.argument}"

    def member(self) -> str:
        """This field as ``describe`` takes it."""
        default = "_MADE" if self.factory is not None else self.default
        return f"({self.name!r}, {self.annotation!r}, {default or 'attrs.NOTHING'}, {self.init}, {self.kw_only})"


@attrs.frozen(slots=True)
class Value:
    """One class; ``inherited`` are the fields of its bases, ``methods`` the names of what it defines itself."""

    name: str
    is_frozen: bool
    has_eq: bool
    inherited: tuple[Field, ...]
    fields: tuple[Field, ...]
    methods: frozenset[str]
    decorator_lines: tuple[int, int]
    last_line: int

    @property
    def all_fields(self) -> tuple[Field, ...]:
        return (*self.inherited, *self.fields)

    def declarations(self) -> Iterator[tuple[tuple[int, int], str]]:
        """Where each of its own fields stands, and what stands there instead."""
        for field in self.fields:
            # A field that is set after __init__ is not Final in the eyes of mypy.
            kept = self.is_frozen and field.init
            yield field.lines, f"    {field.name}: " + (f"Final[{field.annotation}]" if kept else field.annotation)

    def plain_methods(self) -> list[str]:
        """The lines that attrs would have made methods of."""
        lines = self._init()
        if self.has_eq and "__eq__" not in self.methods:
            lines += self._eq()
        if self.has_eq and "__hash__" not in self.methods:
            lines += self._hash()
        return lines if "__repr__" in self.methods else lines + self._repr()

    def description(self) -> str:
        return f"_describe({self.name}, [{', '.join(field.member() for field in self.all_fields)}])"

    def _init(self) -> list[str]:
        taken = [field for field in self.all_fields if field.init]
        by_name = [field.parameter() for field in taken if field.kw_only]
        parameters = ["self", *(field.parameter() for field in taken if not field.kw_only)]
        parameters += ["*", *by_name] if by_name else []
        body = [field.assignment() for field in taken]
        body += ["self.__attrs_post_init__()"] if "__attrs_post_init__" in self.methods else []
        return _method(f"__init__({', '.join(parameters)}) -> None", body or ["pass"])

    def _eq(self) -> list[str]:
        compared = [f"self.{field.name} == other.{field.name}" for field in self.all_fields if field.eq]
        body = [
            f"if type(other) is not {self.name}:",
            "    return False",
            f"assert isinstance(other, {self.name})",
            f"return {' and '.join(compared) or 'True'}",
        ]
        return _method("__eq__(self, other: object) -> bool", body)

    def _hash(self) -> list[str]:
        hashed = "".join(f"self.{field.name}, " for field in self.all_fields if field.eq)
        refused = f"raise TypeError(\"unhashable type: '{self.name}'\")"
        return _method("__hash__(self) -> int", [f"return hash(({hashed}))" if self.is_frozen else refused])

    def _repr(self) -> list[str]:
        shown = ", ".join(f"{field.name}={{self.{field.name}!r}}" for field in self.all_fields if field.repr)
        return _method("__repr__(self) -> str", [f'return f"{self.name}({shown})"'])


def _method(signature: str, body: Iterable[str]) -> list[str]:
    return ["", f"    def {signature}:", *(f"        {line}" for line in body)]


class Plain:
    """Rewrites module after module; bases must come before what inherits from them."""

    def __init__(self) -> None:
        self._fields: dict[str, tuple[Field, ...]] = {}

    def rewrite(self, path: Path) -> None:
        """Write the module at ``path`` anew, if it holds values. Raises ``UnknownForm``."""
        text = path.read_text()
        plain = self.plain(text)
        if plain != text:
            path.write_text(plain)

    def plain(self, text: str) -> str:
        """A module's text with its values as plain classes. Raises ``UnknownForm``."""
        values = [value for node in ast.parse(text).body if (value := self._value(node))]
        if not values:
            return text
        lines = text.split("\n")
        for value in reversed(values):
            lines[value.last_line : value.last_line] = value.plain_methods()
            for (first, last), declaration in reversed(list(value.declarations())):
                lines[first - 1 : last] = [declaration]
            first, last = value.decorator_lines
            del lines[first - 1 : last]
        lines.insert(lines.index(HEAD) + 1, IMPORTS)
        return "\n".join([*lines, *(value.description() for value in values), ""])

    def _value(self, node: ast.stmt) -> Value | None:
        if not isinstance(node, ast.ClassDef):
            return None
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
            kind = ast.unparse(call.func)
            if kind in KINDS:
                options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
                return self._read(node, decorator, KINDS[kind], options)
        return None

    def _read(self, node: ast.ClassDef, decorator: ast.expr, is_frozen: bool, options: dict[str, bool]) -> Value:
        if len(node.decorator_list) > 1 or options.keys() - {"slots", "eq", "kw_only"}:
            raise UnknownForm(f"{node.name}: {ast.unparse(decorator)}")
        value = Value(
            name=node.name,
            is_frozen=is_frozen,
            has_eq=options.get("eq", True),
            inherited=tuple(field for base in node.bases for field in self._fields.get(ast.unparse(base), ())),
            fields=tuple(_fields_of(node, options.get("kw_only", False))),
            methods=frozenset(part.name for part in node.body if isinstance(part, ast.FunctionDef)),
            decorator_lines=(decorator.lineno, _last_line(decorator)),
            last_line=_last_line(node),
        )
        self._fields[node.name] = value.all_fields
        return value


def _fields_of(node: ast.ClassDef, kw_only: bool) -> Iterator[Field]:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            annotation = ast.unparse(part.annotation)
            if not annotation.startswith("ClassVar"):
                yield _field(part, part.target.id, annotation, kw_only)


def _field(part: ast.AnnAssign, name: str, annotation: str, kw_only: bool) -> Field:
    """One annotated name, with what ``attrs.field`` says of it."""
    texts: dict[str, str] = {}
    switches = {"init": True, "eq": True, "repr": True, "kw_only": kw_only}
    if isinstance(part.value, ast.Call) and ast.unparse(part.value.func) == "attrs.field":
        for keyword in part.value.keywords:
            if keyword.arg in switches:
                switches[keyword.arg] = ast.literal_eval(keyword.value)
            elif keyword.arg in ("default", "factory"):
                texts[keyword.arg] = ast.unparse(keyword.value)
            else:
                raise UnknownForm(f"{name}: {ast.unparse(part.value)}")
    elif part.value is not None:
        texts["default"] = ast.unparse(part.value)
    lines = (part.lineno, _last_line(part))
    return Field(name, annotation, texts.get("default"), texts.get("factory"), **switches, lines=lines)


def _last_line(node: ast.stmt | ast.expr) -> int:
    assert node.end_lineno is not None, "parsed text has places"
    return node.end_lineno
