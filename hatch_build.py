"""Puts compiled modules into a wheel when ``HATCH_BUILD_HOOKS_ENABLE`` is 1 (``make wheel``; decision 0021)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompilingHook(BuildHookInterface):  # type: ignore[type-arg]  # Hatchling's own examples leave the argument out.
    """Compiles before a wheel is packed; an editable install stays plain Python, so that it follows the source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        sys.path.insert(0, str(root))
        from compiling.tree import bring_up_to_date

        tree = root / "build" / "compiled"
        for path in bring_up_to_date(root, tree, root / "build" / "compiling"):
            build_data["force_include"][str(tree / path)] = str(path)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
