"""What is shipped: the wheel, installed into an environment that holds it and what it asks for, makes a film."""

from __future__ import annotations

import email
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from klingflow import __version__
from klingflow.output import scaffold, vendored
from klingflow.storyboard.schema import SCHEMAS
from tests.cli import ROOT
from tests.shared import once


def said(words: Sequence[str | Path], cwd: Path, home: Path | None = None) -> str:
    """What a command of a person outside the checkout says: nothing of this environment reaches it."""
    env = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**env, "HOME": str(home or cwd), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, the wheel made from the sdist, and in `direct` the wheel made from the checkout."""

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "build", "--no-isolation"]
        said([*command, "--outdir", folder, ROOT], folder)
        said([*command, "--wheel", "--outdir", folder / "direct", ROOT], folder)

    return once(tmp_path_factory, "dist", build)


def wheel(folder: Path) -> Path:
    (one,) = folder.glob("*.whl")
    return one


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_and_its_schemas_and_nothing_else(built: Path) -> None:
    held = contents(wheel(built))
    tops = {name.partition("/")[0] for name in held}
    assert tops == {"klingflow", f"klingflow-{__version__}.dist-info"}
    for name in SCHEMAS:
        assert held[f"klingflow/schemas/{name}.schema.json"] == (ROOT / f"schemas/{name}.schema.json").read_bytes()
    assert held["klingflow/ci/action.yml"] == (ROOT / "action.yml").read_bytes()
    assert held["klingflow/ci/github-plan.yml"] == (ROOT / "docs/ci/github-plan.yml").read_bytes()
    assert "klingflow/py.typed" in held, "type checkers of other programs see no types without it"
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "klingflow").rglob("*.py")}
    assert {name for name in held if name.endswith(".py")} == modules
    assert not [name for name in held if name.endswith((".pyc", ".mp4"))]
    pictures = {f"klingflow/frames/{name}" for name in scaffold.STILLS}
    assert {name for name in held if name.endswith(".png")} == pictures


def test_the_wheel_holds_the_licence_of_everything_in_it(built: Path) -> None:
    held = contents(wheel(built))
    for name in ("LICENSE", "klingflow/fonts/OFL.txt"):
        assert held[f"klingflow-{__version__}.dist-info/licenses/{name}"] == (ROOT / name).read_bytes()
    for style in ("Regular", "Semibold"):
        assert f"klingflow/fonts/SourceSansPro-{style}.ttf" in held


def test_systems_and_pythons_are_the_same_in_the_metadata_and_in_the_readme(built: Path) -> None:
    metadata = email.message_from_bytes(contents(wheel(built))[f"klingflow-{__version__}.dist-info/METADATA"])
    classifiers = [name.split(" :: ") for name in metadata.get_all("Classifier", [])]
    pythons = [name[-1] for name in classifiers if name[:2] == ["Programming Language", "Python"]]
    assert metadata["Requires-Python"] == f">={pythons[0]}"
    assert {name[-1] for name in classifiers if name[0] == "Operating System"} == {"Linux", "MacOS"}
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "on Linux and macOS (not on Windows)" in readme
    assert f"Python {', '.join(pythons[:-1])} or {pythons[-1]}" in readme


def test_the_metadata_says_whose_it_is_and_where_it_is(built: Path) -> None:
    metadata = email.message_from_bytes(contents(wheel(built))[f"klingflow-{__version__}.dist-info/METADATA"])
    assert metadata["Author"] == "klingflow"
    addresses = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert set(addresses) == {"Source", "Changelog", "Issues"}
    assert all(address.startswith(addresses["Source"]) for address in addresses.values())


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## ")]
    assert headings[0].removeprefix("## ").split(",")[0] == __version__


def test_the_sdist_makes_the_same_wheel(built: Path) -> None:
    assert contents(wheel(built)) == contents(wheel(built / "direct"))


def test_the_sdist_holds_what_the_readme_speaks_of(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "pyproject.toml", "docs/format.md", "tests/test_package.py"} <= names
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"} <= names
    assert {"pipelines/harbour/harbour.yaml", "pipelines/harbour/frames/dawn.png"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "pipelines/out"))]


def needed(name: str, seen: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """The distribution and all that it asks for, as this environment has them."""
    if name.lower() in seen:
        return
    seen.add(name.lower())
    found = importlib.metadata.distribution(name)
    yield found
    for text in found.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield from needed(wanted.name, seen)


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment: the wheel, and the distributions that its metadata asks for.

    Those are linked from this environment, one by one, so that the test needs no network, and a module that klingflow
    imports without asking for it is missing as it would be on a user's machine.
    """

    def install(root: Path) -> None:
        venv.create(root, symlinks=True)
        python = root / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", python]
        said([*pip, "install", "-q", "--no-deps", "--no-index", wheel(built)], root)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
        (metadata,) = site.glob("klingflow-*.dist-info/METADATA")
        asked = importlib.metadata.PathDistribution(metadata.parent).requires or []
        seen = {"klingflow"}
        for wanted in map(Requirement, asked):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                for found in needed(wanted.name, seen):
                    link(found, site)
        said([*pip, "check"], root)

    return once(tmp_path_factory, "installed", install) / "bin"


def link(found: importlib.metadata.Distribution, site: Path) -> None:
    tops = {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        target = site / top
        if not target.exists():
            target.symlink_to(Path(str(found.locate_file(top))))


@pytest.mark.slow
def test_the_installed_wheel_makes_a_film(installed: Path, tmp_path: Path) -> None:
    where = said([installed / "python", "-c", "import klingflow; print(klingflow.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    klingflow = installed / "klingflow"
    assert said([klingflow, "--version"], tmp_path).strip() == f"klingflow {__version__}"
    said([klingflow, "init", "."], tmp_path)
    board = tmp_path / "film.yaml"
    three_shots = board.read_text("utf-8").partition("\n  - id: vigil")[0]  # they say as much as five
    board.write_text(three_shots, "utf-8")
    assert "3 clips made" in said([klingflow, "run", "film.yaml"], tmp_path)
    assert (tmp_path / "out/film/film.mp4").stat().st_size > 100_000
    assert "nothing to make" in said([klingflow, "plan", "film.yaml"], tmp_path)


def test_init_gives_the_repository_the_wheel_that_was_installed(installed: Path, built: Path, tmp_path: Path) -> None:
    """And from the checkout, as here, the same that is built from it, with the metadata of when it was installed, by
    whichever version of the build tool."""
    said([installed / "klingflow", "init", "."], tmp_path)
    from_checkout = vendored.wheel()
    assert from_checkout is not None
    (tmp_path / from_checkout[0]).write_bytes(from_checkout[1])
    wanted = contents(wheel(built))
    metadata, tag, record = (f"klingflow-{__version__}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD"))
    found = contents(wheel(tmp_path / scaffold.VENDOR))
    assert sorted(found.pop(record).splitlines()) == sorted(wanted.pop(record).splitlines())
    assert found == wanted
    others = {metadata: b"", tag: b"", record: b""}
    assert contents(wheel(tmp_path)) | others == wanted | others
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target]
    said([*pip, f"{wheel(tmp_path / scaffold.VENDOR)}[objects]"], tmp_path)
    assert (target / "klingflow/ci/action.yml").exists()


def test_the_installed_wheel_prints_its_schemas(installed: Path, tmp_path: Path) -> None:
    for name in SCHEMAS:
        printed = said([installed / "klingflow", "schema", name], tmp_path)
        assert printed.strip() == (ROOT / f"schemas/{name}.schema.json").read_text("utf-8").strip()
