"""What is committed is source: no path of somebody's machine, no key, no address of a registry, no generated junk."""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from tests.cli import ROOT

MOST_BYTES = 1_000_000


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8")
    if listed.returncode:
        pytest.skip("not a git checkout", allow_module_level=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()
TEXTS = {name: data.decode() for name in FILES if b"\0" not in (data := (ROOT / name).read_bytes())}
SOURCE = {name: text for name, text in TEXTS.items() if not name.startswith("tests/")}

PATHS = r"/(?:wor[k]|roo[t]|opt/pyp[i]|workspac[e])/"
REGISTRIES = r"(?i)https?://[^\s\"'`]*(?:pypi|pythonhosted)|--(?:extra-)?index-ur[l]\b|PIP_(?:INDEX_URL|FIND_LINKS)"
PRIVATE = (
    r"(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01])|169\.254)\.\d{1,3}\.\d{1,3}"
    r"(?!/\d)(?![\w.])"  # a network, as 10.0.0.0/8, is a rule and no machine
)
KEYS = (
    r"(?:\bsk-[A-Za-z0-9_-]{12,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}|\bwhsec_[A-Za-z0-9+/=]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----)"
)
JUNK = (
    r"(?:^|/)(?:__pycache__|\.DS_Store|\.coverage|\.venv|dist|build|out|\.klingflow|[^/]+\.egg-info)(?:/|$)"
    r"|\.py[co]$|~$"
)


def found(pattern: str, texts: dict[str, str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_no_path_of_a_machine_is_named() -> None:
    assert found(PATHS, TEXTS) == []


def test_no_registry_is_named_by_its_address() -> None:
    assert found(REGISTRIES, TEXTS) == []


def test_no_private_address_stands_outside_the_tests() -> None:
    assert found(PRIVATE, SOURCE) == []


def test_no_key_stands_outside_the_tests() -> None:
    assert found(KEYS, SOURCE) == []


def test_nothing_generated_is_committed() -> None:
    assert [name for name in FILES if re.search(JUNK, name)] == []


def test_no_file_is_large() -> None:
    assert [name for name in FILES if (ROOT / name).stat().st_size > MOST_BYTES] == []


def test_names_are_the_same_file_on_every_system() -> None:
    folded = [name.casefold() for name in FILES]
    assert len(folded) == len(set(folded))
    assert [name for name in FILES if re.search(r'[<>:"\\|?*\x00-\x1f]|[ .]$', PurePosixPath(name).name)] == []


def test_texts_hold_plain_line_ends_and_end_with_one() -> None:
    ours = (".py", ".md", ".yaml", ".yml", ".toml", ".json")
    texts = {name: text for name, text in TEXTS.items() if name.endswith(ours)}
    assert [name for name, text in texts.items() if "\r" in text] == []
    assert [name for name, text in texts.items() if text and not text.endswith("\n") and "/answers/" not in name] == []


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        (PATHS, "see /wor" + "k/main"),
        (REGISTRIES, "https://pyp" + "i.org/simple"),
        (REGISTRIES, "pip install --index-u" + "rl x"),
        (PRIVATE, "http://10.1.2.3:80/"),
        (PRIVATE, "192.168.0.7"),
        (KEYS, "key = sk-abcdefgh12345678"),
        (KEYS, "-----BEGIN PRIVATE KEY-----"),
        (JUNK, "a/__pycache__/b.pyc"),
        (JUNK, "pipelines/out/film.mp4"),
    ],
)
def test_what_is_looked_for_is_found(pattern: str, wrong: str) -> None:
    assert re.search(pattern, wrong)


@pytest.mark.parametrize(
    ("pattern", "good"), [(PRIVATE, "10.0.0.0/8"), (KEYS, "a task-identity"), (JUNK, "klingflow/output/x.py")]
)
def test_what_is_harmless_is_left_alone(pattern: str, good: str) -> None:
    assert not re.search(pattern, good)
