"""A studio's week with the ready workflows: their scripts and commands run for real, in clones of a bare repository.

Only `gh` is a stand-in (a folder of comments); every job starts from a fresh clone, as on a real runner.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.standins.hiapi import HiAPI
from tests.test_action import GITHUB, GITLAB, ROOT, Done, Runner, git, script, workflow

FILM = """\
klingflow: 1
title: Harbour Dawn
vars: {look: 35 mm film}
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - id: dawn
    prompt: Gentle waves roll in. {{ look }}
  - id: harbour
    continues: dawn
    prompt: The boat glides into the harbour. {{ look }}
film: {shots: [dawn]}
"""

GH = """
case "$*" in
*--paginate*)
    for each in {folder}/comments/*; do [ "$(head -n 1 "$each" 2> /dev/null)" = "$MARK" ] && basename "$each"; done
    exit 0 ;;
*PATCH*) name="$(basename "$4")" ;;
*) name="$(ls {folder}/comments | wc -l)" ;;
esac
for word in "$@"; do case "$word" in body=@*) cat "${{word#body=@}}" > "{folder}/comments/$name" ;; esac; done
"""


class Studio:
    """The bare repository, the shared store, and the comments of a pull request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bare = folder / "remote.git"
        self.store = folder / "shared-store"
        (folder / "comments").mkdir()
        git(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        desk = folder / "desk"
        git(folder, "init", "-q", "-b", "main", str(desk))
        git(desk, "remote", "add", "origin", str(self.bare))
        self.desk = desk
        (desk / ".gitignore").write_text(".klingflow/\nout/\nklingflow-plans/\n", "utf-8")
        self.write(FILM)
        self.push("main")

    def write(self, text: str) -> None:
        (self.desk / "film.yaml").write_text(text, "utf-8")

    def push(self, branch: str) -> None:
        git(self.desk, "checkout", "-q", "-B", branch)
        git(self.desk, "add", "-A")
        git(self.desk, "commit", "-q", "--allow-empty", "-m", "work")
        git(self.desk, "push", "-q", "-f", "origin", branch)

    def merge(self, branch: str) -> None:
        git(self.desk, "fetch", "-q", "origin")
        git(self.desk, "checkout", "-q", "-B", "main", "origin/main")
        git(self.desk, "merge", "-q", "--no-edit", branch)
        git(self.desk, "push", "-q", "origin", "main")

    def job(self, name: str, branch: str) -> Runner:
        """A fresh machine with a clone of that branch, or of main at that commit."""
        place = self.folder / name
        place.mkdir()
        runner = Runner(place)
        runner.work.rmdir()
        git(place, "clone", "-q", str(self.bare), str(runner.work))
        git(runner.work, "checkout", "-q", branch)
        runner.program("klingflow", f'PYTHONPATH={ROOT} exec {shlex.quote(sys.executable)} -P -m klingflow "$@"')
        runner.program("gh", GH.format(folder=self.folder))
        runner.environment |= {"STORYBOARDS": "film.yaml\n", "PLANS": "klingflow-plans", "MAX_SPEND": "20.00"}
        return runner

    def comments(self) -> list[str]:
        return [path.read_text("utf-8") for path in sorted((self.folder / "comments").iterdir())]


SHORT = FILM.partition("  - id: harbour")[0]
"""The same with one shot: for what needs no chain."""


PAGE = "https://github.example/studio/film/actions/runs/77/artifacts/1"
"""Where the action uploaded the review page."""


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def good(done: Done) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plan_job(studio: Studio, name: str, branch: str, base: str = "") -> tuple[Runner, dict[str, str]]:
    """The steps of the action's plan mode; answers with the job and what its steps put out."""
    runner = studio.job(name, branch)
    given = {"AGAINST": "", "STORE": "", "PICTURES": "artifact", **({"GITHUB_BASE_REF": base} if base else {})}
    good(runner.run(script("Check")))
    good(runner.run(script("Plan"), **given))
    good(runner.run(script("Show the plan"), URL=PAGE))
    out = dict(line.split("=", 1) for line in runner.text("output").splitlines())
    if base:
        good(runner.run(script("Comment"), NUMBER="1", FORK="false", GH_TOKEN="t"))
    return runner, out


def wants_a_run(out: dict[str, str]) -> bool:
    """What the workflow's condition makes of a plan job's outputs."""
    run = workflow(GITHUB[1])["jobs"]["run"]
    passed = workflow(GITHUB[1])["jobs"]["plan"]["outputs"]
    values = {name: out[text.split(".")[-1].rstrip(" }")] for name, text in passed.items()}
    condition = re.sub(r"needs\.plan\.outputs\.(\w+)", lambda m: repr(values[m[1]]), run["if"]).replace("||", "or")
    return bool(eval(condition, {}))


def run_job(studio: Studio, name: str, plans: Path) -> tuple[Runner, str]:
    """The steps of the action's run mode on main, from the plans that another job saved."""
    runner = studio.job(name, "main")
    shutil.copytree(plans, runner.work / "klingflow-plans")
    good(runner.run(script("Run"), KLINGFLOW_STORE=str(studio.store)))
    good(runner.run(script("Keep the lock"), COMMIT="push", GH_TOKEN="t"))
    return runner, runner.text("output")


@pytest.mark.slow
def test_from_a_pull_request_to_a_film_and_a_second_run_that_makes_nothing(studio: Studio) -> None:
    studio.write(FILM.replace("Gentle waves", "Heavy waves"))
    studio.push("storm")
    runner, out = plan_job(studio, "pr", "storm", base="main")
    assert out["tasks"] == "2"
    [comment] = studio.comments()
    assert "Against <code>origin/main</code>: 1 changed." in comment
    assert "<del>Gentle</del><ins>Heavy</ins> waves" in comment
    assert f"[Download it]({PAGE})" in comment
    assert out["pages"] == "true"
    assert "Gentle" in (runner.temp / "klingflow-pictures/film.yaml/review.html").read_text("utf-8")
    good(runner.run(script("Draw the animatic")))
    assert (runner.work / "out" / "film" / "animatic" / "film.mp4").stat().st_size > 10_000
    assert git(runner.work, "status", "--porcelain") == ""

    studio.write(FILM.replace("Gentle waves", "High waves"))
    studio.push("storm")
    plan_job(studio, "pr-again", "storm", base="main")
    [comment] = studio.comments()
    assert "<ins>High</ins> waves" in comment

    studio.merge("storm")
    planner, out = plan_job(studio, "main-plan", "main")
    assert out["tasks"] == "2"
    plans = planner.temp / "klingflow-plans"
    runner, output = run_job(studio, "main-run", plans)
    assert output == "code=0\n"
    assert (runner.work / "out" / "film" / "film.mp4").stat().st_size > 10_000
    assert git(studio.bare, "show", "--name-only", "--format=%s", "main").split("\n\n") == [
        "klingflow: what the run made",
        "film.lock.yaml",
    ]

    planner, out = plan_job(studio, "second-plan", "main")
    assert out["tasks"] == "0"
    second = studio.job("second-run", "main")
    good(second.run("klingflow run film.yaml --frozen --quiet", KLINGFLOW_STORE=str(studio.store)))
    assert (second.work / "out" / "film" / "film.mp4").exists()
    assert git(second.work, "status", "--porcelain") == ""

    _, output = run_job(studio, "late", plans)
    assert output == "code=2\n"


def test_a_job_that_is_run_again_collects_what_it_bought(studio: Studio) -> None:
    studio.write(SHORT)
    studio.push("main")
    planner, _ = plan_job(studio, "plan", "main")
    plans = planner.temp / "klingflow-plans"
    first = studio.job("first", "main")
    shutil.copytree(plans, first.work / "klingflow-plans")
    good(first.run(script("Run"), KLINGFLOW_STORE=str(studio.store)))
    again, output = run_job(studio, "again", plans)
    assert output == "code=0\n"
    assert (again.work / "film.lock.yaml").exists()


def test_a_broken_storyboard_is_annotated_on_its_line_and_fails_the_job(studio: Studio) -> None:
    studio.write(FILM.replace("continues: dawn", "continues: down"))
    studio.push("typo")
    runner = studio.job("pr", "typo")
    out = good(runner.run(script("Check")))
    assert re.search(r"(?m)^::error file=film\.yaml,line=9,", out)
    good(runner.run(script("Plan"), AGAINST="", STORE="", GITHUB_BASE_REF="main"))
    codes = [line for line in runner.text("output").splitlines() if line.startswith("code=")]
    assert codes == ["code=2", "code=2"]


def test_a_hostile_storyboard_commands_neither_the_log_nor_the_comment(studio: Studio) -> None:
    bad = "::error::x <img src=x> @everyone \\u202e\\u001b[31m ##[group]x](https://evil.example)"
    text = SHORT.replace("title: Harbour Dawn", f'title: "{bad}"').replace("Gentle waves", "Gentle {{ bad }} waves")
    said = "::add-mask::x\\n" + bad.replace("\\u001b[31m", "")  # which a prompt may not hold at all
    studio.write(text.replace("vars: {look: 35 mm film}", f'vars: {{look: 35 mm film, bad: "{said}"}}'))
    studio.push("hostile")
    runner = studio.job("pr", "hostile")
    checked = good(runner.run(script("Check")))
    planned = good(runner.run(script("Plan"), AGAINST="", STORE="", GITHUB_BASE_REF="main", PICTURES="artifact"))
    good(runner.run(script("Show the plan"), URL=PAGE))
    good(runner.run(script("Comment"), NUMBER="1", FORK="false", GH_TOKEN="t"))
    graphs = [good(runner.run(f"klingflow graph film.yaml --format {name}")) for name in ("svg", "mermaid", "dot")]
    drawn = runner.run("klingflow run film.yaml --provider animatic < /dev/null")
    assert drawn.returncode == 0
    assert len(studio.comments()) == 1
    shown = [checked, planned, *graphs, drawn.stdout, drawn.stderr, runner.text("summary"), *studio.comments()]
    for text in shown:
        assert not re.search(r"(?m)^\s*::(?!error file=|warning file=)", text)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "##[" not in text
    for text in (runner.text("summary"), *studio.comments()):
        assert "<img" not in text
        assert "@everyone" not in text
    page = (runner.temp / "klingflow-pictures/film.yaml/review.html").read_text("utf-8")
    assert "&lt;img src=x&gt;" in page
    assert "<img src=x" not in page


def test_the_gitlab_jobs_plan_and_run_the_same_film(studio: Studio) -> None:
    recipe = workflow(GITLAB)
    studio.write(SHORT)
    brought = studio.desk / "out" / "film" / "brought.mp4"
    brought.parent.mkdir(parents=True)
    brought.write_text("not made here", "utf-8")
    git(studio.desk, "add", "-f", "out")
    studio.push("main")
    studio.write(SHORT.replace("Gentle waves", "Heavy waves"))
    studio.push("storm")

    def run(name: str, branch: str, *, plan: Path | None = None, **variables: str) -> Runner:
        runner = studio.job(name.replace(" ", "-"), branch)
        own = {**recipe["variables"], **recipe[name].get("variables", {}), **variables}
        exports = "\n".join(f'export {key}="{value}"' for key, value in own.items() if key != "GIT_DEPTH")
        if plan is not None:
            shutil.copy(plan, runner.work)
        lines = recipe[name]["script"]
        of_gitlab = f"export CI_PROJECT_DIR={runner.work} CI_JOB_URL=https://gitlab.example/studio/film/-/jobs/7"
        good(runner.run(f"{of_gitlab}\n{exports}\n" + "\n".join(lines)))
        return runner

    base = git(studio.bare, "rev-parse", "main")
    merge_request = run("plan merge request", "storm", CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    text = (merge_request.work / "plan.md").read_text("utf-8")
    assert "<ins>Heavy</ins>" in text
    assert "(https://gitlab.example/studio/film/-/jobs/7/artifacts/raw/klingflow-pictures/review.html)" in text
    assert (merge_request.work / "klingflow-pictures/strip.jpg").exists()
    assert "klingflow-pictures/" in recipe["plan merge request"]["artifacts"]["paths"]
    planned = run("plan main", "main")
    made = run("run main", "main", plan=planned.work / "plan.json", KLINGFLOW_STORE=str(studio.store))
    assert (made.work / "film.lock.yaml").exists()
    assert (made.work / "out" / "film" / "film.mp4").exists()
    for runner in (merge_request, made):
        assert not (runner.work / "out" / "film" / "brought.mp4").exists(), "out/ is an artifact of the job"
    assert {"out/", "*.tasks.jsonl", ".klingflow/*.tasks.jsonl"} <= set(recipe["run main"]["artifacts"]["paths"])
    assert recipe["run main"]["artifacts"]["when"] == "always"


def test_two_projects_of_a_repository_with_one_file_name_have_a_comment_each(studio: Studio) -> None:
    other = studio.desk / "films" / "two"
    other.mkdir(parents=True)
    (other / "klingflow.yaml").write_text("limits: {tasks: 9}\n", "utf-8")
    (other / "film.yaml").write_text(SHORT, "utf-8")
    studio.push("two")
    (other / "film.yaml").write_text(SHORT.replace("klingflow: 1", "klingflow: 2"), "utf-8")
    studio.push("two-broken")
    for branch in ("two", "two-broken"):  # the second takes the place of the first
        runner = studio.job(branch, branch)
        given = {"AGAINST": "", "STORE": "", "STORYBOARDS": "film.yaml\nfilms/two/film.yaml\n"}
        good(runner.run(script("Plan"), **given, GITHUB_BASE_REF="main"))
        good(runner.run(script("Comment"), NUMBER="1", FORK="false", GH_TOKEN="t"))
        assert [text.split("\n")[0] for text in studio.comments()] == [
            "<!-- klingflow:film.yaml -->",
            "<!-- klingflow:films/two/film.yaml -->",
        ]
        assert "<code>films/two/film.yaml</code>" in studio.comments()[1]
    assert "There is no plan" in studio.comments()[1]


def test_of_merges_in_one_minute_the_newest_run_makes_what_the_dropped_one_would_have_made(studio: Studio) -> None:
    """Merges A, B and C: A's run is under way when B's and C's come; of those two the platform keeps C's alone."""
    assert workflow(GITHUB[1])["concurrency"] == {"group": "${{ github.workflow }}", "cancel-in-progress": False}
    lines = {name: f"  - {{id: {name}, prompt: {name}}}\n" for name in "abc"}
    head = "klingflow: 1\ndefaults: {provider: animatic, duration: 3}\nfilm: {shots: [a]}\nshots:\n"
    studio.write(head + lines["a"])
    studio.push("main")
    planned_a, out = plan_job(studio, "plan-a", "main")
    runner = studio.job("run-a", "main")
    shutil.copytree(planned_a.temp / "klingflow-plans", runner.work / "klingflow-plans")
    for shots in ("ab", "abc"):
        studio.write(head + "".join(lines[name] for name in shots))
        studio.push("main")
    good(runner.run(script("Run"), KLINGFLOW_STORE=str(studio.store)))  # of the commit that was planned
    good(runner.run(script("Keep the lock"), COMMIT="push", GH_TOKEN="t"))
    assert (out["tasks"], runner.text("output")) == ("1", "code=0\n")
    assert set(yaml.safe_load(git(studio.bare, "show", "main:film.lock.yaml"))["shots"]) == {"a"}

    newest = git(studio.desk, "rev-parse", "HEAD")  # its run was made for this commit: A's lock came after it
    planned_c, out = plan_job(studio, "plan-c", newest)
    assert out["tasks"] == "3"
    assert wants_a_run(out)
    last = studio.job("run-c", newest)
    shutil.copytree(planned_c.temp / "klingflow-plans", last.work / "klingflow-plans")
    said = last.run(script("Run"), KLINGFLOW_STORE=str(studio.store))
    assert "2 clips made, 1 adopted" in said.stderr, said.stderr
    good(last.run(script("Keep the lock"), COMMIT="push", GH_TOKEN="t"))
    _, out = plan_job(studio, "afterwards", "main")
    assert out["tasks"] == "0"
    assert not wants_a_run(out)


PAID = """\
klingflow: 1
defaults: {provider: hiapi, resolution: 720p, duration: 3}
shots: [{id: dawn, prompt: Gentle waves roll in.}]
"""


def test_what_a_run_left_when_its_time_ended_is_collected_by_the_next(studio: Studio) -> None:
    triggers = workflow(GITHUB[1])[True]  # YAML 1.1 reads `on` so
    assert {"schedule", "workflow_dispatch"} <= set(triggers)
    studio.write(PAID)
    studio.push("main")
    with HiAPI() as api:
        paid = {**api.environment(), "KLINGFLOW_STORE": str(studio.store)}
        planned, out = plan_job(studio, "plan", "main")
        assert wants_a_run(out)
        cut = studio.job("cut", "main")
        shutil.copytree(planned.temp / "klingflow-plans", cut.work / "klingflow-plans")
        dies = f'PYTHONPATH={ROOT} exec {shlex.quote(sys.executable)} -P -m tests.killer fetch 1 before "$@"'
        cut.program("klingflow", dies)
        good(cut.run(script("Run"), **paid))
        good(cut.run(script("Keep the lock"), COMMIT="push", GH_TOKEN="t"))
        assert (cut.text("output"), len(api.purchases)) == ("code=137\n", 1)

        sees_the_store = studio.job("sees-the-store", "main")
        good(sees_the_store.run(script("Plan"), AGAINST="", STORE=str(studio.store)))
        out = dict(line.split("=", 1) for line in sees_the_store.text("output").splitlines())
        assert (out["tasks"], out["open"]) == ("0", "1")
        assert wants_a_run(out)

        planned, out = plan_job(studio, "scheduled-plan", "main")
        assert wants_a_run(out)
        scheduled = studio.job("scheduled", "main")
        shutil.copytree(planned.temp / "klingflow-plans", scheduled.work / "klingflow-plans")
        good(scheduled.run(script("Run"), **paid))
        good(scheduled.run(script("Keep the lock"), COMMIT="push", GH_TOKEN="t"))
        assert (scheduled.text("output"), len(api.purchases)) == ("code=0\n", 1)
        assert api.trouble == []
    _, out = plan_job(studio, "next", "main")
    assert not wants_a_run(out)
