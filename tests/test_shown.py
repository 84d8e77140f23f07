"""`check` and `plan` show again what they showed before, while nothing that they asked the disk has changed: each kind
of thing that they ask is changed here, one at a time."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from klingflow.cli import app
from klingflow.output import shown
from tests.cli import ROOT

BOARD = """\
klingflow: 1
title: Three
vars: {look: muted teal}
defaults: {provider: animatic, resolution: 720p, duration: 5}
shots:
  - {id: one, first_frame: stills/one.png, prompt: "A pier. {{ look }}"}
  - {id: two, continues: one, prompt: "{% include 'parts/boat.txt' %}"}
  - {id: three, prompt_file: lamp.txt}
film: {shots: [one, two, three]}
"""
CHECK, PLAN = ("check", "film.yaml"), ("plan", "film.yaml")
Change = Callable[[Path], object]


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project below a git root, whose one film is made; the folder that commands run in."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import films

    (tmp_path / "repository/.git").mkdir(parents=True)
    root = tmp_path / "repository/project"
    for folder in ("stills", "parts", ".klingflow/store/blobs"):
        (root / folder).mkdir(parents=True)
    for n, name in enumerate(("one", "other")):
        (root / f"stills/{name}.png").write_bytes(films._png(n))
    (root / "stills/link.png").symlink_to("one.png")
    (root / "parts/boat.txt").write_text("A boat.", "utf-8")
    (root / "lamp.txt").write_text("A lamp.", "utf-8")
    (root / "klingflow.yaml").write_text("limits: {spend: 1.00}\n", "utf-8")
    board = root / "film.yaml"
    board.write_text(BOARD, "utf-8")
    made = films._made(board)
    (root / "film.lock.yaml").write_text(films.lock.dump(made), "utf-8")
    for takes in made.films[""].values():
        clip = takes[1].clip
        (root / f".klingflow/store/blobs/{clip[:2]}").mkdir(exist_ok=True)
        (root / f".klingflow/store/blobs/{clip[:2]}/{clip[2:]}").write_bytes(b"a clip")
    monkeypatch.chdir(root)
    monkeypatch.setattr(shown, "_RACY_NS", 0)  # what is written here is not waited for
    monkeypatch.setattr(shown, "_SILENT", frozenset())  # other tests of this process load them
    return root


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, bool]]:
    """Runs a command line; what it showed with its exit code, and whether that was shown again."""
    ran: list[object] = []
    real = shown.noted

    def noted(words: Sequence[str], command: Callable[[], int]) -> int:
        ran.append(words)
        return real(words, command)

    monkeypatch.setattr(shown, "noted", noted)

    def ask(*words: str) -> tuple[object, bool]:
        ran.clear()
        code = app.main(words)
        said = capsys.readouterr()
        return (code, said.out, said.err), not ran

    return ask


def edit(name: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        path = root / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return change


def in_place(name: str, old: bytes, new: bytes) -> Change:
    """Another content of the same length, with the old time of change."""

    def change(root: Path) -> None:
        path = root / name
        known = path.stat()
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))
        assert path.stat().st_size == known.st_size

    return change


def write(name: str, text: str) -> Change:
    return lambda root: (root / name).write_text(text, "utf-8")


def any_clip(root: Path) -> None:
    next((root / ".klingflow/store/blobs").glob("??/*")).unlink()


def the_other_still(root: Path) -> None:
    shutil.copyfile(root / "stills/other.png", root / "stills/one.png")


def a_link(root: Path) -> None:
    (root / "stills/one.png").unlink()
    (root / "stills/one.png").symlink_to("../../../outside.png")


def spelled_otherwise(root: Path) -> None:
    (root / "stills/one.png").rename(root / "stills/One.png")


def a_folder_in_its_place(root: Path) -> None:
    (root / "lamp.txt").unlink()
    (root / "lamp.txt").mkdir()


def a_merge(root: Path) -> None:
    (root / "film.lock.yaml").unlink()
    (root.parent / ".git/MERGE_HEAD").write_text("x", "utf-8")


def a_film_that_pays(root: Path) -> Callable[..., None]:
    """The film in a git repository of its own, its clips paid for; what runs git there."""
    import films

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=root.parent, check=True, capture_output=True)

    shutil.rmtree(root.parent / ".git")
    git("init", "-q")
    edit("film.yaml", "animatic", "mulerouter")(root)
    edit("film.yaml", "first_frame: stills/one.png, ", "")(root)
    (root / "film.lock.yaml").write_text(films.lock.dump(films._made(root / "film.yaml")), "utf-8")
    git("add", "project/film.yaml")
    return git


TOLD = {
    "the storyboard": (CHECK, edit("film.yaml", "A pier", "{{ nothing }}")),
    "the storyboard, as long and as old": (CHECK, in_place("film.yaml", b"look }}", b"lock }}")),
    "an included text": (CHECK, edit("parts/boat.txt", "A boat", "{{ nothing }}")),
    "an included text that went": (CHECK, lambda root: (root / "parts/boat.txt").unlink()),
    "a prompt's file": (CHECK, edit("lamp.txt", "A lamp", "{{ nothing }}")),
    "a folder in place of a file": (CHECK, a_folder_in_its_place),
    "a still that is no picture": (CHECK, write("stills/one.png", "text")),
    "a still that went": (CHECK, lambda root: (root / "stills/one.png").unlink()),
    "a still that is a link out of the project": (CHECK, a_link),
    "a still that is spelled otherwise": (CHECK, spelled_otherwise),
    "the project file": (CHECK, edit("klingflow.yaml", "limits", "limit")),
    "a project file above": (CHECK, write("../klingflow.yaml", "nonsense: 1\n")),
    "a project file that is called otherwise": (CHECK, write("../klingflow.yml", "limits: {}\n")),
    "the prompt, for a plan": (PLAN, edit("film.yaml", "A pier", "A quay")),
    "an included text, for a plan": (PLAN, edit("parts/boat.txt", "boat", "ship")),
    "a prompt's file, for a plan": (PLAN, in_place("lamp.txt", b"lamp", b"lump")),
    "a still, for a plan": (PLAN, the_other_still),
    "the lock": (PLAN, edit("film.lock.yaml", "key: ", "key: 0")),
    "the lock that went": (PLAN, lambda root: (root / "film.lock.yaml").unlink()),
    "the lock that went, in a merge": (PLAN, a_merge),
    "a clip that went": (PLAN, any_clip),
    "the store that went": (PLAN, lambda root: shutil.rmtree(root / ".klingflow")),
    "another store": (PLAN, edit("klingflow.yaml", "limits", "store: elsewhere\nlimits")),
}
SAME = {
    "another file": (CHECK, write("notes.txt", "a note")),
    "another storyboard": (PLAN, write("other.yaml", BOARD)),
    "git's end": (CHECK, lambda root: (root.parent / ".git").rename(root.parent / "git")),
    "a still that nobody names": (PLAN, write("stills/other.png", "text")),
}


@pytest.mark.parametrize("name", [*TOLD, *SAME])
def test_what_is_shown_after_a_change_is_what_a_new_user_would_see(
    name: str, film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words, change = {**TOLD, **SAME}[name]
    before, _ = ask(*words)
    assert ask(*words) == (before, True)
    change(film)
    after, repeated = ask(*words)
    assert not (repeated and name in TOLD)
    assert (after != before) == (name in TOLD), after
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert ask(*words) == (after, False)


@pytest.mark.parametrize(
    ("variable", "value"), [("FORCE_COLOR", "1"), ("KLINGFLOW_STORE", "/nowhere"), ("OTHER", "1")]
)
def test_another_environment_is_another_question(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    before, _ = ask(*PLAN)
    assert ask(*PLAN) == (before, True)
    monkeypatch.setenv(variable, value)
    after, repeated = ask(*PLAN)
    assert not repeated
    assert (after == before) == (variable == "OTHER")


def test_a_store_in_the_cache_folder_is_asked_like_any_other(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(os.environ["XDG_CACHE_HOME"]) / "klingflow/store/mine"
    shutil.copytree(film / ".klingflow/store", store)
    monkeypatch.setenv("KLINGFLOW_STORE", str(store))
    before, _ = ask(*PLAN)
    assert ask(*PLAN) == (before, True)
    next((store / "blobs").glob("??/*")).unlink()
    after, repeated = ask(*PLAN)
    assert not repeated
    assert after != before


def test_another_command_line_or_folder_is_another_question(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(*PLAN)
    assert not ask(*PLAN, "--var", "look=red")[1]
    assert not ask("check", "film.yaml", "--format", "json")[1]
    assert ask("check", "film.yaml", "--format", "json")[1]
    shutil.copytree(film, film.parent / "copy", symlinks=True)
    monkeypatch.chdir(film.parent / "copy")
    assert not ask(*PLAN)[1]


def test_another_klingflow_is_asked_anew(film: Path, ask: Callable[..., tuple[object, bool]], tmp_path: Path) -> None:
    """A version in work has one number all the time: what counts is each module's file, and each library's."""
    module = tmp_path / "module.py"
    module.write_text("", "utf-8")
    sys.modules["a module of some library"] = type(sys)("module")
    sys.modules["a module of some library"].__file__ = str(module)
    try:
        ask(*CHECK)
        assert ask(*CHECK)[1]
        module.write_text("1", "utf-8")
        assert not ask(*CHECK)[1]
    finally:
        del sys.modules["a module of some library"]


def test_what_cannot_be_asked_again_is_not_kept(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit("film.yaml", "A pier", "A quay")(film)
    for words in (PLAN, (*PLAN, "--out", "plan.json"), (*PLAN, "--against", "main")):  # ledger, a file, git
        ask(*words)
        assert not ask(*words)[1], words
    monkeypatch.setattr(shown, "_SILENT", frozenset({"klingflow"}))
    ask(*CHECK)
    assert not ask(*CHECK)[1]


def test_what_was_written_a_moment_ago_may_change_unseen_and_is_not_kept(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "_RACY_NS", 3_600 * 10**9)
    ask(*CHECK)
    assert not ask(*CHECK)[1]


def test_what_was_written_a_moment_before_a_long_command_is_not_kept_either(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have changed again, as large and as old, after the command had read it."""
    monkeypatch.setattr(shown, "_RACY_NS", 3_600 * 10**9)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", itertools.count(now, 3_601 * 10**9).__next__)
    ask(*CHECK)
    assert not ask(*CHECK)[1]


def test_what_changes_while_the_command_runs_is_not_kept(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shown._keep

    def keep(*values: object) -> None:
        edit("film.yaml", "look }}", "lock }}")(film)
        real(*values)  # type: ignore[arg-type]

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(shown, "_keep", keep)
        before, _ = ask(*CHECK)
    after, repeated = ask(*CHECK)
    assert not repeated
    assert after != before


def test_the_system_is_asked_as_before_when_a_command_has_ended(
    film: Path, ask: Callable[..., tuple[object, bool]]
) -> None:
    real = (os.stat, os.lstat, os.readlink, os.access, sys.stdout)
    ask(*CHECK)
    assert (os.stat, os.lstat, os.readlink, os.access, sys.stdout) == real


def test_no_secret_is_kept(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIAPI_API_KEY", "canary-of-the-shown")
    ask(*PLAN)
    assert ask(*PLAN)[1]
    kept = list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*"))
    assert kept
    assert not [path for path in kept if path.is_file() and b"canary" in path.read_bytes()]


def test_a_plan_that_pays_is_shown_again_until_git_tracks_something_else(
    film: Path, ask: Callable[..., tuple[object, bool]]
) -> None:
    git = a_film_that_pays(film)
    before, _ = ask(*PLAN)
    assert ask(*PLAN) == (before, True)
    git("add", "--force", "project/.klingflow")
    after, repeated = ask(*PLAN)
    assert not repeated
    assert "committed to git" in str(after)
    assert ask(*PLAN) == (after, True)
    git("rm", "-q", "-r", "--cached", "project/.klingflow")
    assert ask(*PLAN) == (before, False)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="no /proc")
def test_a_film_by_a_way_through_proc_is_read_anew(film: Path, ask: Callable[..., tuple[object, bool]]) -> None:
    words = ("check", "/proc/self/cwd/film.yaml")
    before, _ = ask(*words)
    assert not ask(*words)[1]
    edit("film.yaml", "A pier", "{{ nothing }}")(film)
    assert ask(*words)[0] != before


def test_git_is_asked_anew_in_a_folder_of_somebody_else_and_after_another_setting(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whether git trusts another user's folder is in settings that may lie anywhere."""
    settings = tmp_path / "settings"
    settings.write_text("", "utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    a_film_that_pays(film)
    ask(*PLAN)
    assert ask(*PLAN)[1]
    settings.write_text("[core]\n", "utf-8")
    assert not ask(*PLAN)[1]
    assert ask(*PLAN)[1]
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    ask(*PLAN)
    assert not ask(*PLAN)[1]


def test_where_providers_of_packages_were_looked_for_nothing_is_kept(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run code of their own, which may ask anything."""
    from klingflow.providers import PROVIDERS

    monkeypatch.setattr(PROVIDERS, "_found", None)
    edit("film.yaml", "animatic", "somebody")(film)
    before, _ = ask(*CHECK)
    assert "somebody" in str(before)
    monkeypatch.setattr(PROVIDERS, "_found", None)
    assert ask(*CHECK) == (before, False)


def test_another_path_of_packages_is_another_question(
    film: Path, ask: Callable[..., tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(*CHECK)
    assert ask(*CHECK)[1]
    monkeypatch.setattr(sys, "path", [*sys.path, "/another"])
    assert not ask(*CHECK)[1]
