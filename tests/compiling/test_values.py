"""Values written as plain classes are what attrs would have made of them."""

from __future__ import annotations

import copy
import sys
import types
from typing import Any

import attrs
import pytest

from compiling import described
from compiling.values import Plain, UnknownForm

SAMPLE = '''
from __future__ import annotations
import attrs
from typing import ClassVar

@attrs.frozen(slots=True)
class Message:
    """A message."""

    term: int
    entries: tuple[int, ...] = ()
    _secret: int = attrs.field(default=7, repr=False, eq=False)

@attrs.frozen(slots=True)
class Longer(Message):
    by_name: int = attrs.field(default=1, kw_only=True)

    @property
    def doubled(self) -> int:
        return 2 * self.term

@attrs.frozen(slots=True, kw_only=True)
class ByName:
    first: int
    second: int = 2

@attrs.define(slots=True)
class Open:
    LIMIT: ClassVar[int] = 3
    items: list[int] = attrs.field(factory=list)

@attrs.define(slots=True, eq=False)
class Same:
    number: int

@attrs.frozen(slots=True)
class Derived:
    number: int
    twice: int = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "twice", self.number * 2)
'''


@pytest.fixture(params=["attrs", "plain"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The sample as a module, as it is written and as it is rewritten: both must pass the same tests."""
    monkeypatch.setitem(sys.modules, "shardraft._described", described)
    module = types.ModuleType("sample")
    monkeypatch.setitem(sys.modules, "sample", module)
    text = SAMPLE if request.param == "attrs" else Plain().plain(SAMPLE)
    assert ("@attrs" in text) == (request.param == "attrs")
    exec(compile(text, "sample", "exec"), module.__dict__)
    return module


def test_values_take_their_arguments_by_place_and_by_name(made: Any) -> None:
    message = made.Message(1, (2,), secret=3)
    assert (message.term, message.entries, message._secret) == (1, (2,), 3)
    assert made.Message(term=1).entries == ()
    assert made.Longer(1, by_name=5).by_name == 5
    assert made.ByName(first=1).second == 2
    for wrong in (lambda: made.ByName(1), lambda: made.Message(), lambda: made.Longer(1, (), 2, 3)):
        with pytest.raises(TypeError):
            wrong()


def test_values_are_equal_when_their_fields_are(made: Any) -> None:
    assert made.Message(1, (2,), secret=3) == made.Message(1, (2,), secret=4)
    assert made.Message(1) != made.Message(2)
    assert made.Message(1) != made.Longer(1)
    assert len({made.Message(1), made.Message(1), made.Message(2)}) == 2
    assert made.Same(1) != made.Same(1)
    assert len({made.Same(1), made.Same(1)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(made.Open())


def test_values_say_what_they_are(made: Any) -> None:
    assert repr(made.Message(1, (2,))) == "Message(term=1, entries=(2,))"
    assert repr(made.Longer(1)) == "Longer(term=1, entries=(), by_name=1)"
    assert made.Longer(4).doubled == 8


def test_factories_make_a_new_object_each_time(made: Any) -> None:
    first, second = made.Open(), made.Open()
    first.items.append(1)
    assert (first.items, second.items, made.Open.LIMIT) == ([1], [], 3)
    first.items = []
    assert first == second


def test_what_is_derived_is_derived(made: Any) -> None:
    assert made.Derived(4).twice == 8
    assert made.Derived(4) == made.Derived(4)


def test_values_can_be_copied(made: Any) -> None:
    for value in (made.Message(1, (2, 3), secret=4), made.ByName(first=1), made.Open([1]), made.Derived(5)):
        copied = copy.copy(value)
        assert copied is not value
        assert copied == value
        assert [getattr(copied, field.name) for field in attrs.fields(type(value))] == [
            getattr(value, field.name) for field in attrs.fields(type(value))
        ]


def test_attrs_knows_the_fields(made: Any) -> None:
    assert [field.name for field in attrs.fields(made.Longer)] == ["term", "entries", "_secret", "by_name"]
    assert [field.type for field in attrs.fields(made.ByName)] == ["int", "int"]
    assert attrs.has(made.Open)
    assert attrs.evolve(made.Longer(1, (2,)), term=5) == made.Longer(5, (2,))
    assert attrs.asdict(made.ByName(first=1)) == {"first": 1, "second": 2}


def test_values_are_matched_by_place(made: Any) -> None:
    match made.Longer(1, (2,), by_name=3):
        case made.Longer(term, entries):
            assert (term, entries) == (1, (2,))
        case _:
            pytest.fail("it does not match")
    assert made.ByName.__match_args__ == ()


@pytest.mark.parametrize(
    "text",
    [
        "@attrs.frozen(order=True)\nclass A:\n    x: int",
        "@attrs.frozen\n@other\nclass A:\n    x: int",
        "@attrs.frozen\nclass A:\n    x: int = attrs.field(validator=check)",
    ],
)
def test_a_form_without_a_plain_one_is_refused(text: str) -> None:
    with pytest.raises(UnknownForm):
        Plain().plain(f"from __future__ import annotations\n{text}")
