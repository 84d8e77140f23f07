"""The user's cache folder: what is kept there, and where it lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from klingflow.io import remembered


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_was_parsed_is_known_again_by_its_digest(tmp_path: Path) -> None:
    remembered.remember("storyboard", "a" * 64, {"shots": [{"id": "é"}]})
    assert remembered.recall("storyboard", "a" * 64) == {"shots": [{"id": "é"}]}
    assert remembered.recall("lock", "a" * 64) is None
    for i in range(1010):
        remembered.remember("lock", f"{i:064}", i)
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1000
    assert remembered.recall("lock", f"{1009:064}") == 1009


def test_what_one_locale_wrote_another_reads(tmp_path: Path) -> None:
    data = {"title": "Émile – 海"}
    code = (
        "from klingflow.io import remembered;"
        f"remembered.remember('storyboard', 'a' * 64, {data!a});"
        "import locale; print(locale.getpreferredencoding(False))"
    )
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    wrote = subprocess.run(
        [sys.executable, "-c", code], env=ascii_only, capture_output=True, encoding="utf-8", check=True
    )
    assert "UTF" not in wrote.stdout.upper()
    assert remembered.recall("storyboard", "a" * 64) == data


def test_a_file_whose_name_is_not_utf8_is_kept_too() -> None:
    name = os.fsdecode(b"d\xe9j\xe0.png")
    remembered.remember("facts", "a" * 64, {name: 1})
    assert remembered.recall("facts", "a" * 64) == {name: 1}


@pytest.mark.parametrize(
    ("system", "stated", "folder"),
    [
        ("linux", "", "/home/ann/.cache/klingflow"),
        ("linux", "not/absolute", "/home/ann/.cache/klingflow"),
        ("linux", "/var/cache", "/var/cache/klingflow"),
        ("darwin", "", "/home/ann/Library/Caches/klingflow"),
        ("darwin", "/var/cache", "/var/cache/klingflow"),
    ],
)
def test_the_folder_is_the_one_of_the_system_unless_the_user_names_another(
    monkeypatch: pytest.MonkeyPatch, system: str, stated: str, folder: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_CACHE_HOME", stated)
    assert remembered.cache_folder() == folder
