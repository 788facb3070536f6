"""Limits and timeouts from a TOML file: a table per part of ``HostConfig``, each name as it is in ``config``."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import attrs

from shardraft.config import HostConfig
from shardraft.errors import InvalidArgument


def read_config(path: Path) -> HostConfig:
    """The defaults with what the file says otherwise.

    Raises ``InvalidArgument``, which names the file and what is wrong: no TOML, a table or name that does not
    exist, a value that is no possible one.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        defaults = HostConfig()
        _check_names(tables, [part.name for part in attrs.fields(HostConfig)], "table")
        return attrs.evolve(
            defaults, **{table: _changed(getattr(defaults, table), table, values) for table, values in tables.items()}
        )
    except (OSError, ValueError) as error:  # Neither UTF-8 nor TOML are ValueErrors, and so are our own.
        raise InvalidArgument(f"{path}: {error}") from error


def _changed(part: Any, table: str, values: Any) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{table} is a table: write [{table}] above its values")
    _check_names(values, [field.name for field in attrs.fields(type(part))], f"name in [{table}]")
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} in [{table}] is a whole number, not {value!r}")
    return attrs.evolve(part, **values)


def _check_names(given: dict[str, Any], known: list[str], what: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"no such {what}: {name}" + (f"; did you mean {near[0]}?" if near else ""))
