"""The action and the ready workflows: read as data, and their scripts run for real with a stand-in for `gh`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from klingflow.cli.app import parser
from klingflow.core.model import ShotId
from klingflow.output import markdown, scaffold
from klingflow.storyboard import lock
from klingflow.storyboard.lock import Lock
from tests import review_helpers
from tests.test_lock import entry, reread

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
GITHUB = [ROOT / "docs" / "ci" / name for name in ("github-plan.yml", "github-run.yml")]
GITLAB = ROOT / "docs" / "ci" / "gitlab-ci.yml"


def workflow(path: Path) -> dict[Any, Any]:
    data: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return data


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = workflow(path)["jobs"]
    return found


def script(name: str) -> str:
    [text] = [step["run"] for step in STEPS if step.get("name") == name]
    return str(text)


def scripts() -> list[str]:
    gitlab = [
        line
        for job in workflow(GITLAB).values()
        if isinstance(job, dict)
        for part in ("before_script", "script", "after_script")
        for line in job.get(part, [])
    ]
    steps = [step for path in GITHUB for job in jobs(path).values() for step in job["steps"]]
    return [step["run"] for step in (*STEPS, *steps) if "run" in step] + gitlab


PINNED = re.compile(r"uses: (?:actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./vendor/klingflow\b)")


def test_only_official_actions_are_used_each_at_a_commit() -> None:
    for path in (ROOT / "action.yml", *GITHUB):
        text = path.read_text("utf-8")
        uses = [line for line in text.splitlines() if re.match(r"\s*(- )?uses:", line)]
        assert uses
        for line in uses:
            assert PINNED.search(line), line


def test_no_checkout_leaves_its_credentials_behind() -> None:
    for path in GITHUB:
        for job in jobs(path).values():
            checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
            assert checkouts
            for step in checkouts:
                assert step["with"]["persist-credentials"] is False


def test_no_expression_stands_in_a_script() -> None:
    assert len(scripts()) > 10
    for text in scripts():
        assert "${{" not in text


def test_every_step_is_given_what_its_script_reads() -> None:
    """A variable of another step, or of nobody, is empty in bash: what it decides is never done."""
    runner = re.compile(r"(?:GITHUB|RUNNER)_[A-Z_]+|PATH|HOME|KLINGFLOW_APPROVED_REF")
    for step in STEPS:
        text = step.get("run", "")
        given = {*step.get("env", ()), *re.findall(r"(?<![$\w{])([A-Z][A-Z_]+)=", text)}
        for name in re.findall(r"\$\{?([A-Z][A-Z_]+)\b", text):
            assert name in given or runner.fullmatch(name), f"{step['name']}: {name}"
    read = " ".join(str(step) for step in STEPS)
    for name in ACTION["inputs"]:
        assert f"inputs.{name} " in read, f"no step reads the input {name}"


def test_no_script_lets_python_import_from_the_checkout() -> None:
    for text in scripts():
        for call in re.findall(r"\bpython3?\b[^|;&\n]*", text):
            assert re.match(r'python3?"? -I ', call), call


@pytest.mark.parametrize(
    "absent_on_macos",
    [
        r"\bcp\b[^|;\n]* (?:--\w|-\w*t\b)",
        r"\bxargs\b[^|;\n]* (?:--\w|-\w*r\b)",
        r"(?<!-)\b(?:mkdir|dirname|rm|mv|head|tail|sort|find)\b[^|;\n]* --\w",
        r"\bfind\b[^|;\n]* -(?:printf|regextype)\b",
        r"\bsed\b[^|;\n]* -\w*[ir]\b",
        r"\bgrep\b[^|;\n]* -\w*P\b",
        r"\b(?:mapfile|readarray|realpath|readlink|timeout|tac|nproc|seq|shuf|coproc)\b",
        r"\b(?:date\b[^|;\n]* -\w*d|stat\b[^|;\n]* -\w*c|base64\b[^|;\n]* -\w*w|sort\b[^|;\n]* -\w*[Vz])",
        r"\b(?:declare|local|typeset) -\w*[Anglu]|\bwait -n\b|\$\{\w+(?:,,?|\^\^?|@\w)\}|\|&|&>>|\bset -\w*u",
        r"\$\{\w+\[-|;;?&|\[\[ -v\b|\bprintf -v \w+\[|%\(\S*\)T|\bshopt -\w+ \w*globstar|\{\d+\.\.\d+\.\.",
        r"\bread\b[^|;\n]* -\w*[iN]\b|\$(?:EPOCH\w+|BASHPID)|\"\$\{[^}]*\$'",
    ],
)
def test_the_action_runs_on_a_macos_runner(absent_on_macos: str) -> None:
    for step in STEPS:
        assert not re.search(absent_on_macos, step.get("run", "")), step["name"]


def test_what_is_run_is_the_commit_that_was_planned() -> None:
    for job in jobs(GITHUB[1]).values():
        [checkout] = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert checkout["with"]["ref"] == "${{ github.sha }}"


def test_klingflow_is_found_where_it_was_installed_and_other_steps_keep_their_path() -> None:
    found = 0
    for step in STEPS:
        text = step.get("run", "")
        assert "GITHUB_PATH" not in text
        if re.search(r"\bklingflow (?:check|plan|run|lock)\b", text):
            assert text.startswith('export PATH="$RUNNER_TEMP/klingflow/bin:$PATH"'), step["name"]
            found += 1
    assert found == 5


def test_only_harmless_facts_of_a_pull_request_are_read_at_all() -> None:
    for path in (ROOT / "action.yml", *GITHUB):
        for name in re.findall(r"github\.(?:event|head_ref)[\w.]*", path.read_text("utf-8")):
            assert name in (
                "github.event_name",  # GitHub's word
                "github.event.pull_request.number",  # a number
                "github.event.pull_request.head.repo.fork",  # true or false
                "github.event.repository.default_branch",  # the owner's setting
            )


def test_a_pull_request_meets_no_secret_and_no_target_trigger() -> None:
    for path in GITHUB:
        text = re.sub(r"#.*", "", path.read_text("utf-8"))
        assert "pull_request_target" not in text
        assert "workflow_run" not in text
    plan = re.sub(r"#.*", "", GITHUB[0].read_text("utf-8"))
    assert "secrets" not in plan
    assert workflow(GITHUB[0])["permissions"] == {}
    assert jobs(GITHUB[0])["plan"]["permissions"] == {"contents": "read", "pull-requests": "write"}


def test_secrets_and_writing_are_in_the_protected_job_alone() -> None:
    plan, run = jobs(GITHUB[1])["plan"], jobs(GITHUB[1])["run"]
    assert workflow(GITHUB[1])["permissions"] == {}
    assert "secrets" not in json.dumps(plan)
    assert plan["permissions"] == {"contents": "read"}
    assert run["permissions"] == {"contents": "write"}
    assert run["environment"]
    assert run["needs"] == "plan"
    assert workflow(GITHUB[1])["concurrency"]["cancel-in-progress"] is False


def test_secrets_reach_one_step_of_the_job_and_one_of_the_action() -> None:
    run = jobs(GITHUB[1])["run"]
    *others, step = run["steps"]
    assert step["with"]["mode"] == "run"
    without = {**run, "steps": [*others, {**step, "with": {**step["with"], "secrets": ""}}]}
    assert "secrets." not in json.dumps(without)
    assert "secrets.HIAPI_API_KEY" in step["with"]["secrets"]
    readers = [step.get("name") for step in STEPS if "inputs.secrets" in json.dumps(step)]
    assert readers == ["Run"]
    tokens = [step.get("name") for step in STEPS if "inputs.github-token" in json.dumps(step)]
    assert tokens == ["Comment", "Keep the lock"]


def test_workflows_give_the_action_only_inputs_that_it_has() -> None:
    seen = 0
    for path in GITHUB:
        for job in jobs(path).values():
            for step in job["steps"]:
                if step["uses"] == f"./{scaffold.VENDOR}":
                    assert set(step["with"]) <= set(ACTION["inputs"])
                    seen += 1
    assert seen == 3
    assert all("description" in each for each in ACTION["inputs"].values())


def test_every_klingflow_command_of_a_recipe_is_one_that_klingflow_knows() -> None:
    known = parser()
    found = 0
    for text in scripts():
        for line in re.findall(r"(?m)(?:^|[;&|] )\s*klingflow ((?:check|plan|run) [^\n]*)", text):
            words = re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", line)  # an option that is there when its variable is
            words = re.sub(r"(>|<|\|\||&$).*", "", words).replace('"${paths[@]}"', "film.yaml")
            words = re.sub(r'"?\$\{?\w+\}?"?', "film.yaml", words)
            known.parse_args([word.strip('"') for word in words.split()])
            found += 1
    assert found >= 7


def test_the_pre_commit_hook_checks_the_repository() -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    program, *words = hook["entry"].split()
    assert program == "klingflow"
    parser().parse_args(words)
    assert hook["pass_filenames"] is False
    for name in ("film.yaml", "frames/a.png", "prompts/x.txt"):
        assert re.search(hook["files"], name)


# -- the scripts themselves


def test_what_is_uploaded_was_collected_outside_the_checkout() -> None:
    for step in STEPS:
        if step.get("uses", "").startswith("actions/upload-artifact"):
            assert step["with"]["path"].startswith("${{ runner.temp }}/klingflow-")


Done = subprocess.CompletedProcess[str]


class Runner:
    """A folder that looks to a script like GitHub's runner. `gh` and, unless told otherwise, `klingflow` are stand-ins
    that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temp = folder / "temp"
        self.bin = folder / "bin"
        self.work = folder / "work"
        for each in (self.temp, self.bin, self.work):
            each.mkdir()
        self.environment = {
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_REPOSITORY": "studio/film",
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REF_NAME": "main",
            "GITHUB_RUN_ID": "77",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def program(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/bash\n{body}\n", "utf-8")
        (self.bin / name).chmod(0o755)

    def run(self, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
            cwd=self.work,
            env=self.environment | environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    def text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text("utf-8") if path.exists() else ""


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    made = Runner(tmp_path)
    made.program("klingflow", f'printf "%s\\n" "$*" >> {tmp_path}/called; exit "${{FAIL:-0}}"')
    return made


def installs(runner: Runner, **given: str) -> Done:
    """The install step, with a Python that writes down what pip is given."""
    folder = runner.temp / "klingflow/bin"
    runner.program("python", f'mkdir -p {folder}; cp "$0" {folder}; echo "${{@: -1}}"')
    given = {"MODE": "plan", "PICTURES": "artifact", "PACKAGE": "", "GITHUB_ACTION_PATH": str(runner.work), **given}
    return runner.run(script("Install klingflow"), **given)


def test_the_action_installs_the_wheel_beside_it_or_what_it_is_part_of(runner: Runner) -> None:
    refused = installs(runner)
    assert (refused.returncode, "::error::no wheel lies beside action.yml" in refused.stdout) == (2, True)
    (runner.work / "pyproject.toml").write_text("", "utf-8")
    assert installs(runner).stdout.endswith(f"{runner.work}[objects]\n")
    (runner.work / "klingflow-1-py3-none-any.whl").write_text("", "utf-8")
    done = installs(runner)
    assert done.stdout.endswith(f"{runner.work}/klingflow-1-py3-none-any.whl[objects]\n")
    assert done.returncode == 0, done.stderr
    assert installs(runner, PACKAGE="a b").stdout.endswith("a b\n")
    (runner.work / "klingflow-2-py3-none-any.whl").write_text("", "utf-8")
    refused = installs(runner)
    assert (refused.returncode, "::error::there is more than one wheel" in refused.stdout) == (2, True)
    assert installs(runner, MODE="both").returncode == 2
    assert installs(runner, PICTURES="all").returncode == 2


def test_the_gitlab_jobs_install_the_wheel_that_init_wrote(runner: Runner) -> None:
    [line] = [line for line in workflow(GITLAB)["default"]["before_script"] if line.startswith("for wheel in")]
    (runner.work / scaffold.VENDOR).mkdir(parents=True)
    (runner.work / scaffold.VENDOR / "klingflow-1-py3-none-any.whl").write_text("", "utf-8")
    done = runner.run(line.replace("/opt/klingflow/bin/python", "echo"))
    assert done.stdout == "-I -m pip install -q vendor/klingflow/klingflow-1-py3-none-any.whl[objects]\n"


PLANNER = """
printf '%s\\n' "$*" >> {folder}/called
while [ $# -gt 0 ]; do [ "$1" = --out ] && out="$2"; shift; done
echo '{{"totals": {{"tasks": 3, "steps": {{"resume": 2}}}}}}' > "$out"
echo '<!-- klingflow:film.yaml -->'
echo 'a plan'
"""


def test_the_plan_step_plans_each_storyboard_against_the_base(runner: Runner) -> None:
    runner.program("klingflow", PLANNER.format(folder=runner.folder))
    given = {"STORYBOARDS": "a.yaml\nfilms/b c.yaml\n", "AGAINST": "", "STORE": "", "GITHUB_BASE_REF": "main"}
    done = runner.run(script("Plan"), **given)
    assert done.returncode == 0, done.stderr
    saved, shown = runner.temp / "klingflow-plans", runner.temp / "klingflow-pictures"
    plans = [
        f"plan a.yaml --against origin/main --format markdown --out {saved}/a.yaml.json",
        f"plan films/b c.yaml --against origin/main --format markdown --out {saved}/films/b c.yaml.json",
    ]
    assert runner.text("called").splitlines() == plans
    assert runner.text("output").splitlines() == ["tasks=6", "open=4", "code=0", "pages="]
    (runner.folder / "called").unlink()
    assert runner.run(script("Plan"), PICTURES="artifact", **given).returncode == 0
    assert runner.text("called").splitlines() == [
        f"{plans[0]} --pictures {shown}/a.yaml",  # with its ending: a/b.yaml has none of its folders in this one
        f"{plans[1]} --pictures {shown}/films/b c.yaml",
    ]
    assert runner.run(script("Show the plan"), URL="").returncode == 0
    assert runner.text("summary").count("a plan") == 2


def test_without_a_base_there_are_no_pictures(runner: Runner) -> None:
    runner.program("klingflow", PLANNER.format(folder=runner.folder))
    assert runner.run(script("Plan"), STORYBOARDS="a.yaml", AGAINST="", STORE="", PICTURES="artifact").returncode == 0
    assert "--pictures" not in runner.text("called")


def test_the_comment_links_the_page_where_it_was_uploaded(runner: Runner) -> None:
    comments = runner.temp / "klingflow-comments"
    comments.mkdir()
    shown = markdown.Pictures(shots=3, strip=True)
    text = markdown.comment(review_helpers.plan(), pictures=shown)
    (comments / "1.md").write_text(text, "utf-8")
    (comments / "2.md").write_text("<!-- klingflow:b.yaml -->\n\\a `x` $(touch sprung)\n", "utf-8")
    url = "https://github.com/studio/film/actions/runs/77/artifacts/1234"
    assert runner.run(script("Show the plan"), URL=url).returncode == 0
    linked = (comments / "1.md").read_text("utf-8")
    assert f"[Download it]({url})" in linked
    assert markdown.PICTURES_MARK not in linked
    assert linked.splitlines()[0] == text.splitlines()[0]
    assert (comments / "2.md").read_text("utf-8") == "<!-- klingflow:b.yaml -->\n\\a `x` $(touch sprung)\n"
    assert runner.text("summary") == linked + (comments / "2.md").read_text("utf-8")
    assert not (runner.work / "sprung").exists()
    assert sorted(file.name for file in comments.iterdir()) == ["1.md", "2.md"]


def test_where_the_pictures_will_be_is_told_to_the_plan(runner: Runner) -> None:
    runner.program("klingflow", f'echo "$KLINGFLOW_PICTURES_URL" >> {runner.folder}/called; exit 2')
    given = {"STORYBOARDS": "a.yaml\nfilms/b.yaml", "AGAINST": "main", "STORE": "", "PICTURES": "artifact"}
    runner.run(script("Plan"), PICTURES_URL="https://pictures.example.com/pr-12/", **given)
    runner.run(script("Plan"), PICTURES_URL="", **given)
    base = "https://pictures.example.com/pr-12"
    assert runner.text("called").splitlines() == [f"{base}/a.yaml", f"{base}/films/b.yaml", "", ""]


def test_a_storyboards_name_is_never_a_command(runner: Runner) -> None:
    runner.program("klingflow", PLANNER.format(folder=runner.folder))
    name = f"$(touch {runner.folder}/sprung)`touch {runner.folder}/sprung`;touch x.yaml"
    done = runner.run(script("Plan"), STORYBOARDS=name, AGAINST=name, STORE="")
    assert done.returncode == 0, done.stderr
    assert not (runner.folder / "sprung").exists()
    assert f"plan {name} --against {name}" in runner.text("called")


def test_a_plan_that_fails_is_told_after_its_comment(runner: Runner) -> None:
    runner.program("klingflow", "echo '<!-- klingflow:film.yaml -->'; exit 2")
    done = runner.run(script("Plan"), STORYBOARDS="film.yaml", AGAINST="", STORE="")
    assert done.returncode == 0, done.stderr
    assert runner.text("output").splitlines() == ["tasks=0", "open=0", "code=2", "pages="]
    assert (runner.temp / "klingflow-comments" / "1.md").read_text("utf-8")
    assert runner.run(script("Say how it ended"), CHECKED="0", PLANNED="2").returncode == 2
    assert runner.run(script("Say how it ended"), CHECKED="0", PLANNED="0").returncode == 0


GH = """
printf '%s|' "$@" >> {folder}/gh; echo >> {folder}/gh
case "$*" in *--paginate*) printf '{old}' ;; esac
exit {code}
"""


def comment_step(runner: Runner, *, old: str = "", code: int = 0, fork: str = "false") -> Done:
    runner.program("gh", GH.format(folder=runner.folder, old=old, code=code))
    comments = runner.temp / "klingflow-comments"
    comments.mkdir(exist_ok=True)
    (comments / "1.md").write_text("<!-- klingflow:film.yaml -->\n$(touch sprung) @all\n", "utf-8")
    return runner.run(script("Comment"), NUMBER="12", FORK=fork, GH_TOKEN="t")


def test_the_first_comment_is_written_and_later_ones_replace_it(runner: Runner) -> None:
    assert comment_step(runner).returncode == 0
    assert "POST|repos/studio/film/issues/12/comments|-F|body=@" in runner.text("gh")
    (runner.folder / "gh").unlink()
    assert comment_step(runner, old="41\\n42\\n").returncode == 0
    assert "PATCH|repos/studio/film/issues/comments/41|-F|body=@" in runner.text("gh")
    assert not (runner.work / "sprung").exists()


def test_a_fork_gets_no_comment_and_a_refused_comment_is_no_failure(runner: Runner) -> None:
    done = comment_step(runner, fork="true")
    assert (done.returncode, runner.text("gh")) == (0, "")
    assert "::notice::" in done.stdout
    done = comment_step(runner, code=1)
    assert done.returncode == 0
    assert "::notice::" in done.stdout


def test_the_run_step_runs_each_saved_plan_and_goes_on_after_a_failure(runner: Runner) -> None:
    done = runner.run(script("Run"), STORYBOARDS="a.yaml\nb.yaml", PLANS="plans", MAX_SPEND="20.00", FAIL="4")
    assert done.returncode == 0, done.stderr
    assert runner.text("called").splitlines() == [
        "run a.yaml --plan plans/a.yaml.json --yes --max-spend 20.00",
        "run b.yaml --plan plans/b.yaml.json --yes --max-spend 20.00",
    ]
    assert runner.text("output") == "code=4\n"


def test_only_the_run_gets_the_secrets_and_each_as_it_is(runner: Runner) -> None:
    runner.program("klingflow", f"env > {runner.folder}/called")
    secrets = 'HIAPI_API_KEY=a=b $(touch sprung) "c\n\nAWS_REGION=eu\n'
    done = runner.run(script("Run"), STORYBOARDS="a.yaml", PLANS="plans", SECRETS=secrets)
    assert done.returncode == 0, done.stderr
    given = runner.text("called").splitlines()
    assert 'HIAPI_API_KEY=a=b $(touch sprung) "c' in given
    assert "AWS_REGION=eu" in given
    assert not [line for line in given if line.startswith("SECRETS=")]
    assert not (runner.work / "sprung").exists()


@pytest.mark.parametrize("bad", ["hunter2", "HIAPI_API_KEY=x\nhunter2=", "-p hunter2=1", "A-B=hunter2"])
def test_a_secret_that_is_no_variable_stops_the_job_and_is_not_shown(runner: Runner, bad: str) -> None:
    done = runner.run(script("Run"), STORYBOARDS="a.yaml", PLANS="plans", SECRETS=bad)
    assert (done.returncode, runner.text("called")) == (2, "")
    assert "::error::" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_cancelled_job_tells_the_run_and_waits_for_it(runner: Runner) -> None:
    told = f"echo told >> {runner.folder}/called; kill $waits; exit 130"
    runner.program("klingflow", f"trap '{told}' TERM; sleep 60 & waits=$!; touch {runner.folder}/up; wait $waits")
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("Run")]
    environment = runner.environment | {"STORYBOARDS": "a.yaml\nb.yaml", "PLANS": "plans", "MAX_SPEND": ""}
    with subprocess.Popen(words, cwd=runner.work, env=environment) as job:
        while not (runner.folder / "up").exists():
            assert job.poll() is None
        job.terminate()
        job.wait(timeout=20)
    assert runner.text("called") == "told\n"
    assert runner.text("output") == "code=130\n"


def git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    own = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *words], cwd=folder, env=own | who, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


@pytest.fixture
def remote(runner: Runner) -> Path:
    """The runner's work folder is a clone of a bare repository with one commit."""
    bare = runner.folder / "remote.git"
    git(runner.folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(runner.work, "init", "-q", "-b", "main")
    (runner.work / "film.yaml").write_text("klingflow: 1\n", "utf-8")
    git(runner.work, "add", "-A")
    git(runner.work, "commit", "-q", "-m", "one")
    git(runner.work, "remote", "add", "origin", str(bare))
    git(runner.work, "push", "-q", "origin", "main")
    return bare


def keep(runner: Runner, commit: str) -> Done:
    return runner.run(script("Keep the lock"), STORYBOARDS="film.yaml\nother.yaml", COMMIT=commit)


def test_the_lock_and_nothing_else_is_committed_and_pushed(runner: Runner, remote: Path) -> None:
    (runner.work / "film.lock.yaml").write_text("lock: 1\n", "utf-8")
    (runner.work / "scrap.txt").write_text("x", "utf-8")
    done = keep(runner, "push")
    assert done.returncode == 0, done.stderr
    assert git(remote, "show", "--name-only", "--format=%s|%an", "main").split("\n") == [
        "klingflow: what the run made|github-actions[bot]",
        "",
        "film.lock.yaml",
    ]
    assert "as it was" in keep(runner, "push").stdout


def test_the_lock_is_pushed_with_the_token_of_the_step(runner: Runner, remote: Path) -> None:
    asked: list[str | None] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(403 if asked[-1] else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        git(runner.work, "remote", "set-url", "origin", f"{address}/studio/film")
        (runner.work / "film.lock.yaml").write_text("lock: 1\n", "utf-8")
        ours = {"GH_TOKEN": "the$token", "GIT_TERMINAL_PROMPT": "0", "STORYBOARDS": "film.yaml", "COMMIT": "push"}
        assert runner.run(script("Keep the lock"), GITHUB_SERVER_URL=address, **ours).returncode != 0
        own = b64encode(b"x-access-token:the$token").decode()
        assert f"Basic {own}" in asked
        asked.clear()
        assert runner.run(script("Keep the lock"), GITHUB_SERVER_URL="http://other.example", **ours).returncode == 0
        (runner.work / "film.lock.yaml").write_text("lock: 2\n", "utf-8")
        assert runner.run(script("Keep the lock"), GITHUB_SERVER_URL="http://other.example", **ours).returncode != 0
        server.shutdown()
    assert set(asked) == {None}, "the token is for GitHub's own server"
    assert "token" not in (runner.work / ".git" / "config").read_text("utf-8")


def test_a_lock_is_pushed_onto_a_branch_that_went_on(runner: Runner, remote: Path) -> None:
    other = runner.folder / "other"
    git(runner.folder, "clone", "-q", str(remote), str(other))
    (other / "notes.md").write_text("x", "utf-8")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "meanwhile")
    git(other, "push", "-q", "origin", "main")
    (runner.work / "film.lock.yaml").write_text("lock: 1\n", "utf-8")
    done = keep(runner, "push")
    assert done.returncode == 0, done.stderr
    assert git(remote, "log", "--format=%s", "main").split("\n") == ["klingflow: what the run made", "meanwhile", "one"]


def test_a_lock_that_another_run_wrote_meanwhile_keeps_the_clips_of_both(runner: Runner, remote: Path) -> None:
    runner.program("klingflow", f'PYTHONPATH={ROOT} exec {shlex.quote(sys.executable)} -P -m klingflow "$@"')
    other = runner.folder / "other"
    git(runner.folder, "clone", "-q", str(remote), str(other))
    mine, hers = (Lock({"": {ShotId("a"): {1: entry(seed, clip=seed * 64)}}}) for seed in "12")
    (other / "film.lock.yaml").write_text(lock.dump(hers), "utf-8")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "meanwhile")
    git(other, "push", "-q", "origin", "main")
    (runner.work / "film.lock.yaml").write_text(lock.dump(mine), "utf-8")
    done = keep(runner, "push")
    assert done.returncode == 0, done.stdout + done.stderr
    text = git(remote, "show", "main:film.lock.yaml")
    assert reread(text) == lock.met(Lock(), hers, mine)
    assert git(runner.work, "status", "--porcelain") == ""


def test_a_lock_can_be_proposed_instead(runner: Runner, remote: Path) -> None:
    runner.program("gh", GH.format(folder=runner.folder, old="", code=0))
    (runner.work / "film.lock.yaml").write_text("lock: 1\n", "utf-8")
    done = keep(runner, "pull-request")
    assert done.returncode == 0, done.stderr
    assert git(remote, "log", "--format=%s", "main") == "one"
    assert git(remote, "log", "-1", "--format=%s", "klingflow/lock-77-1") == "klingflow: what the run made"
    assert "pr|create|--base|main|--head|klingflow/lock-77-1|" in runner.text("gh")


def test_a_link_in_out_is_not_uploaded(runner: Runner) -> None:
    secret = runner.folder / "secret"
    secret.write_text("key", "utf-8")
    for name in ("out/a/film.mp4", "cut/out/b/de/film.mp4", "out/a/report.html"):
        file = runner.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("plain", "utf-8")
    for name in ("out/c/film.mp4", "out/d"):
        (runner.work / name).parent.mkdir(parents=True, exist_ok=True)
        (runner.work / name).symlink_to(secret if name.endswith("mp4") else runner.folder)
    (runner.folder / "film.mp4").write_text("key", "utf-8")
    done = runner.run(script("Collect the film"))
    assert done.returncode == 0, done.stderr
    found = [file for file in (runner.temp / "klingflow-film").rglob("*") if not file.is_dir()]
    assert sorted(file.relative_to(runner.temp / "klingflow-film").as_posix() for file in found) == [
        "cut/out/b/de/film.mp4",
        "out/a/film.mp4",
        "out/a/report.html",
    ]
    assert all(file.read_text("utf-8") == "plain" for file in found)


def test_what_a_commit_put_into_out_is_not_uploaded_as_made(runner: Runner, remote: Path) -> None:
    brought = ("out/a/film.mp4", "out/a/report.html", "sub/out/b/de/film.mp4", "out/a/animatic/shots/x.mp4")
    for name in (*brought, "frames/out/still.png"):
        (runner.work / name).parent.mkdir(parents=True, exist_ok=True)
        (runner.work / name).write_text("brought", "utf-8")
    git(runner.work, "add", "-A")
    git(runner.work, "commit", "-q", "-m", "brought")
    for made, *steps in (("report.html", "Run", "Collect the film"), ("animatic/film.mp4", "Draw the animatic")):
        runner.program("klingflow", f"mkdir -p out/a/animatic; echo made > out/a/{made}")
        for name in steps:
            done = runner.run(script(name), STORYBOARDS="a.yaml", PLANS="plans")
            assert done.returncode == 0, done.stderr
    uploaded = {
        file.relative_to(runner.temp).as_posix(): file.read_text("utf-8")
        for file in runner.temp.rglob("*")
        if file.is_file()
    }
    assert uploaded == {
        "klingflow-film/out/a/report.html": "made\n",
        "klingflow-animatic/out/a/animatic/film.mp4": "made\n",
    }
    assert (runner.work / "frames/out/still.png").exists(), "a folder of that name that is the film's own"


def test_tasks_in_flight_are_kept_also_after_a_failure(runner: Runner, remote: Path) -> None:
    for name in ("brought.tasks.jsonl", ".gitignore"):
        (runner.work / name).write_text("*.tasks.jsonl\n.klingflow/\n", "utf-8")
    git(runner.work, "add", "-A", "-f")
    git(runner.work, "commit", "-q", "-m", "brought")
    for name in ("cut/film.tasks.jsonl", ".klingflow/a b.tasks.jsonl", "brought.tasks.jsonl"):
        (runner.work / name).parent.mkdir(exist_ok=True)
        (runner.work / name).write_text("{}\n", "utf-8")
    done = runner.run(script("Collect the tasks in flight"))
    assert done.returncode == 0, done.stderr
    kept = runner.temp / "klingflow-tasks"
    assert sorted(file.relative_to(kept).as_posix() for file in kept.rglob("*") if file.is_file()) == [
        ".klingflow/a b.tasks.jsonl",
        "cut/film.tasks.jsonl",
    ]
    collect, upload = (step for step in STEPS if "the tasks in flight" in step.get("name", ""))
    assert collect["if"] == upload["if"] == "always() && inputs.mode == 'run'"
    assert upload["with"]["include-hidden-files"] is True, "one of them is in .klingflow"
    assert upload["with"]["path"] == "${{ runner.temp }}/klingflow-tasks"


def test_a_film_without_tasks_in_flight_is_no_failure(runner: Runner, remote: Path) -> None:
    assert runner.run(script("Collect the tasks in flight")).returncode == 0


@pytest.mark.parametrize("step", ["Plan", "Run"])
@pytest.mark.parametrize(
    ("environ", "ref"),
    [
        ({"GITHUB_BASE_REF": "main", "GITHUB_REF": "refs/pull/7/merge"}, "refs/remotes/origin/main"),
        ({"GITHUB_BASE_REF": "", "GITHUB_REF": "refs/heads/trunk"}, "HEAD"),
        ({"GITHUB_REF": "refs/heads/trunk", "KLINGFLOW_APPROVED_REF": "refs/tags/ok"}, "refs/tags/ok"),
        ({"GITHUB_REF": "refs/heads/feature"}, ""),
    ],
    ids=["pull request", "default branch", "named", "another branch"],
)
def test_a_pick_is_approved_by_the_base_or_by_the_default_branch(step: str, environ: dict[str, str], ref: str) -> None:
    text = script(step)
    begin = text.index("# A pick is approved")
    part = text[begin : text.index("\nfi\n", begin) + len("\nfi\n")]
    env = {"PATH": os.environ["PATH"], "DEFAULT_BRANCH": "trunk", **environ}
    tell = f'{part}printf %s "${{KLINGFLOW_APPROVED_REF:-}}"'
    said = subprocess.run(["bash", "-eu", "-c", tell], env=env, capture_output=True, encoding="utf-8")
    assert (said.returncode, said.stdout) == (0, ref), said.stderr
