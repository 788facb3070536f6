"""The wheel holds both packages, their types and the schemas, and works where the source tree is not."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shardraft import __version__
from tests.rules import ROOT

pytest.importorskip("hatchling", reason="the build backend is one of the tools that make venv installs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked as an installer would."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "site")
    return directory / "site"


def test_the_wheel_holds_packages_types_and_schemas_and_nothing_else(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir()}
    assert tops == {"shardraft", "shardraft_router", f"shardraft-{__version__}.dist-info"}
    assert (installed / "shardraft" / "py.typed").exists()
    assert (installed / "shardraft_router" / "py.typed").exists()
    schemas = {path.name for path in (ROOT / "schema").glob("*.capnp")}
    assert {path.name for path in (installed / "shardraft" / "schema").iterdir()} == schemas


def test_the_installed_packages_find_their_schemas(installed: Path) -> None:
    code = (
        "import shardraft, shardraft_router; from shardraft_router import open_router; import shardraft.server.app; "
        "print(shardraft.__file__, shardraft_router.__file__)"
    )
    # Isolated from the environment, and with the wheel before the source tree that an editable install adds.
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); sys.path.remove({str(ROOT)!r}); {code}"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=installed, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert all(path.startswith(str(installed)) for path in ran.stdout.split())


def test_the_console_script_is_the_commands_entry_point(installed: Path) -> None:
    entry_points = (installed / f"shardraft-{__version__}.dist-info" / "entry_points.txt").read_text()
    assert "shardraft = shardraft.cli.main:main" in entry_points
