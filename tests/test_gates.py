"""Approval gates: what waits for whom, what opens a gate, and that nothing is bought behind a closed one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest

from klingflow.app import approvals
from klingflow.app.project_loader import StoryboardFile
from klingflow.core.model import ClipRecord, Digest, Film, Key, ShotFrame, ShotId
from klingflow.core.source import Severity
from klingflow.execution.outcome import Outcome, Result
from klingflow.output import markdown, planfile, plantext
from klingflow.planning import plan as planning
from klingflow.planning.gates import Wait
from klingflow.planning.plan import Action, OpenOrder, Plan, Step, Sums
from klingflow.planning.schedule import prices_anew
from klingflow.storyboard import lock as locks
from klingflow.storyboard import schema
from klingflow.storyboard.lock import Entry, Lock, Pick
from tests import test_branches
from tests.cli import Project
from tests.standins.hiapi import HiAPI
from tests.storyboards import faults
from tests.test_branches import Clone
from tests.test_git import git
from tests.test_plan import INPUTS, entry, film, lookups, plan_of, shot

CLIP = Digest("11" * 32)
APPROVED = ""
NOT_YET = "take 1 is picked and not in origin/main yet: merge it (then git fetch)"


def chain(**fields: object) -> Film:
    """dawn (with a gate) <- noon <- dusk, and eve beside them."""
    dawn = shot("dawn", gate="approved", **fields)
    noon = shot("noon", first_frame=ShotFrame(ShotId("dawn")))
    dusk = shot("dusk", first_frame=ShotFrame(ShotId("noon")))
    return film(dawn, noon, dusk, shot("eve"))


def pick(take: int = 1, clip: Digest = CLIP) -> Pick:
    return Pick(take=take, clip=clip, by="anna", why="the light", date="2026-11-27")


def made(
    one: Film,
    entries: Mapping[str, Entry] | None = None,
    picks: Mapping[str, Pick] | None = None,
    *,
    todo: str | None = APPROVED,
    orders: Mapping[str, OpenOrder] | None = None,
    store: Mapping[Key, ClipRecord] | None = None,
) -> Plan:
    """The plan where the lock has these entries (of take 1) and picks; `todo` is what is left to do for a pick, None a
    rehearsal."""
    lock = Lock(
        {"": {ShotId(name): {one.shot(ShotId(name)).take: found} for name, found in (entries or {}).items()}},
        picks={"": dict(picks or {})},
    )
    unapproved = None if todo is None else lambda variant, shot, pick: todo
    return plan_of([one], lock, replace(lookups(store, orders), unapproved=unapproved))


def actions(plan: Plan) -> dict[str, str]:
    return {step.shot: step.action.value for film in plan.films for step in film.steps}


def step_of(plan: Plan, name: str) -> Step:
    return next(step for film in plan.films for step in film.steps if step.shot == name)


def test_what_continues_a_shot_with_a_gate_waits_however_far_it_is_from_it() -> None:
    plan = made(chain())
    assert actions(plan) == {"dawn": "make", "noon": "wait", "dusk": "wait", "eve": "make"}
    noon = step_of(plan, "noon")
    assert noon.reason == "waits for the approval of dawn: make it, pick a take with `klingflow takes`, merge it"
    assert noon.waits_for == (Wait(ShotId("dawn")),)
    assert (noon.orders, noon.purchase, noon.seconds, noon.price, noon.expect_s) == (False, None, 0, 0, 0)


def test_no_total_counts_what_waits_but_it_is_told_what_it_would_cost() -> None:
    sums = planning.totals(made(chain()).films)
    assert (sums.tasks, sums.spend, sums.seconds, sums.steps["wait"]) == (2, Decimal("1.0"), 10, 2)
    assert sums.later == Sums(spend=Decimal("1.0"), seconds=10, tasks=2)
    (timed,) = made(chain()).films
    assert timed.critical == ("dawn",)
    assert timed.wall_s == 100.0


@pytest.mark.parametrize(
    ("picks", "todo", "said"),
    [
        ({}, APPROVED, "pick a take with `klingflow takes`, merge it"),
        ({"dawn": pick()}, NOT_YET, NOT_YET),
        (
            {"dawn": pick(2)},
            APPROVED,
            "take 2 was picked, and take 1 counts: pick it with `klingflow takes`, merge it",
        ),
        (
            {"dawn": pick(clip=Digest("99" * 32))},
            APPROVED,
            "the clip is another one than was picked: look at it, pick it with `klingflow takes`, merge it",
        ),
        ({"dawn.first_frame": pick()}, APPROVED, "pick a take with `klingflow takes`, merge it"),
        ({"noon": pick()}, APPROVED, "pick a take with `klingflow takes`, merge it"),
    ],
    ids=["no pick", "not merged", "another take", "re-rolled", "a frame's pick", "another shot's pick"],
)
def test_a_closed_gate_says_what_opens_it(picks: Mapping[str, Pick], todo: str, said: str) -> None:
    one = chain()
    plan = made(one, {"dawn": entry(one.shots[0])}, picks, todo=todo)
    assert actions(plan) == {"dawn": "reuse", "noon": "wait", "dusk": "wait", "eve": "make"}
    assert step_of(plan, "noon").reason == step_of(plan, "dusk").reason == f"waits for the approval of dawn: {said}"


def test_an_approved_pick_of_the_very_clip_opens_the_gate() -> None:
    one = chain()
    plan = made(one, {"dawn": entry(one.shots[0])}, {"dawn": pick()})
    assert actions(plan) == {"dawn": "reuse", "noon": "make", "dusk": "make", "eve": "make"}
    assert all(step.waits_for == () and step.later is None for film in plan.films for step in film.steps)


def test_the_pick_of_another_take_is_none_for_the_one_that_counts_now() -> None:
    one = chain(take=3)
    plan = made(one, {"dawn": entry(one.shots[0])}, {"dawn": pick(2)})
    assert "take 2 was picked, and take 3 counts" in step_of(plan, "noon").reason
    assert made(one, {"dawn": entry(one.shots[0])}, {"dawn": pick(3)}).films[0].steps[1].action is Action.MAKE


def test_a_gate_holds_behind_a_clip_that_is_there() -> None:
    one = chain()
    dawn, noon = entry(one.shots[0]), entry(one.shots[1], "22", {ShotId("dawn"): CLIP})
    assert actions(made(one, {"dawn": dawn, "noon": noon}))["dusk"] == "wait"
    assert actions(made(one, {"dawn": dawn, "noon": noon}))["noon"] == "reuse"
    held = replace(one, shots=(*one.shots[:1], replace(one.shots[1], hold=True), *one.shots[2:]))
    assert actions(made(held, {"dawn": dawn, "noon": noon})) == {
        "dawn": "reuse",
        "noon": "hold",
        "dusk": "wait",
        "eve": "make",
    }


@pytest.mark.parametrize(
    ("order", "action"),
    [
        (OpenOrder(action=Action.RESUME, reason="task t1 at hiapi was paid for: collect it"), "resume"),
        (OpenOrder(action=Action.RESOLVE, reason="asked hiapi, and it is not known whether it was bought"), "resolve"),
        (OpenOrder(action=Action.MAKE, reason="failed before: not ordered again"), "make"),
        (OpenOrder(action=Action.MAKE, reason="failed before: tried again", orders=True), "wait"),
        (OpenOrder(action=Action.RESUME, reason="the same request again", orders=True), "wait"),
    ],
    ids=["collected", "in doubt", "failed for good", "failed", "sent again"],
)
def test_only_what_may_buy_waits(order: OpenOrder, action: str) -> None:
    one = chain()
    step = step_of(made(one, {"dawn": entry(one.shots[0])}, orders={"noon": order}), "noon")
    assert step.action == action
    assert not step.orders
    if order.action is Action.RESUME and order.orders:
        assert step.reason.endswith("; the same request again")


def test_a_clip_in_the_store_is_adopted_behind_a_closed_gate() -> None:
    one = chain()
    known = entry(one.shots[1], "22", {ShotId("dawn"): CLIP})
    plan = made(one, {"dawn": entry(one.shots[0])}, store={known.key: known.record()})
    assert actions(plan)["noon"] == "adopt"


def test_gates_one_behind_the_other_are_named_in_the_order_in_which_they_open() -> None:
    one = film(*(shot(f"s{n}", gate="approved", **_after(n)) for n in range(8)))
    plan = made(one)
    assert step_of(plan, "s2").waits_for == (Wait(ShotId("s0")), Wait(ShotId("s1")))
    assert step_of(plan, "s2").reason.endswith("merge it; then for s1")
    assert step_of(plan, "s4").reason.endswith("; then for s1, s2 and s3")
    assert step_of(plan, "s7").reason.endswith("; then for s1, s2 and 4 more")


def _after(n: int) -> dict[str, object]:
    return {"first_frame": ShotFrame(ShotId(f"s{n - 1}"))} if n else {}


def test_a_long_chain_of_gates_is_planned_quickly_and_all_of_it_waits() -> None:
    one = film(*(shot(f"s{n}", gate="approved", **_after(n)) for n in range(3000)))
    plan = made(one)
    assert planning.totals(plan.films).steps == {**dict.fromkeys(actions(plan).values(), 0), **_tally(one)}
    assert max(len(step.waits_for) for step in plan.films[0].steps) == 100


def _tally(one: Film) -> dict[str, int]:
    return {action.value: 0 for action in Action} | {"make": 1, "wait": len(one.shots) - 1}


def test_a_rehearsal_and_the_price_of_the_whole_film_pass_every_gate() -> None:
    assert set(actions(made(chain(), todo=None)).values()) == {"make"}
    waiting = replace(lookups(), unapproved=lambda variant, shot, pick: "not yet")
    assert prices_anew([chain()], INPUTS, waiting) == {"": Decimal("2.0")}


def test_a_purchase_that_waits_in_one_place_and_is_made_in_another_is_counted_once() -> None:
    dawn, noon = chain().shots[:2]
    free = replace(dawn, id=ShotId("free"), gate=None)
    also = replace(noon, id=ShotId("also"), first_frame=ShotFrame(ShotId("free")))
    plan = made(film(dawn, noon, free, also))
    assert actions(plan) == {"dawn": "make", "noon": "wait", "free": "make", "also": "make"}
    assert planning.totals(plan.films).later == Sums()
    both = made(film(dawn, noon, replace(noon, id=ShotId("twin"))))
    assert planning.totals(both.films).later == Sums(spend=Decimal("0.5"), seconds=5, tasks=1)


def test_a_selection_of_what_waits_is_no_fault() -> None:
    from klingflow.planning.schedule import only

    one = chain()
    plan = only(made(one), {"": {ShotId("dusk")}}, [one], lambda name: 4)
    assert actions(plan) == {"dusk": "wait"}


# -- what is shown


def test_the_plan_tells_what_opens_a_gate_once_and_what_waits_for_it() -> None:
    text = plantext.summary(made(chain()), width=140)
    assert text.count("pick a take with `klingflow takes`") == 1
    assert "~ dusk  wait    waits for the approval of dawn  " in text
    assert "($0.50 later)" in text
    assert "2 clips to make, 10 s of clips, $1.00 (estimate)\n" in text
    assert "waiting: 2 clips, 10 s, $1.00 (estimate) once decided; in no total" in text
    assert "what does not wait is ready in about" in text


def test_the_comment_tells_it_too() -> None:
    text = markdown.comment(made(chain()))
    assert "**2 clips would be made, $1.00 (estimate), 10 s of clips; 2 clips wait for a person" in text
    row = "| <code>&#126;</code> | <code>noon</code> | waits for the approval of dawn: make it, pick a take with"
    assert row in text
    assert "| <code>dusk</code> | waits for the approval of dawn | $0.50 later |" in text
    assert "; what waits is not in it." in text
    assert "<code>&#126;</code> wait" in text


def test_a_saved_plan_keeps_what_waits_and_a_run_of_it_refuses_when_that_changed() -> None:
    one = chain()
    now = planfile.SavedPlan(plan=made(one, {"dawn": entry(one.shots[0])}), inputs={})
    written = planfile.dump(now)
    data = json.loads(written)
    jsonschema.Draft202012Validator(schema.load("plan")).validate(data)
    noon = data["steps"][1]
    assert noon["action"] == "wait"
    assert noon["waits_for"] == [{"shot": "dawn", "frame": ""}]
    assert noon["later"] == {"seconds": 5, "price": 0.5, "basis": "estimate"}
    assert data["totals"]["later"] == {"spend": 1, "seconds": 10, "tasks": 2}
    again = planfile.load(written)
    assert planning.totals(again.plan.films).later == Sums(spend=Decimal(1), seconds=10, tasks=2)
    assert planfile.differences(again, now) == []
    opened = replace(now, plan=made(one, {"dawn": entry(one.shots[0])}, {"dawn": pick()}))
    assert planfile.differences(again, opened) == [
        "shot noon: the action was wait, now it is make",
        "shot dusk: the action was wait, now it is make",
    ]
    closed = planfile.differences(planfile.load(planfile.dump(opened)), now)
    assert "shot noon: the action was make, now it is wait" in closed


def test_a_run_ends_with_what_waits_and_for_whom() -> None:
    plan = made(chain()).films[0]
    results = {Action.MAKE: Result.MADE, Action.WAIT: Result.WAITING}
    outcomes = tuple(
        Outcome(shot=step.shot, take=1, is_active_take=True, result=results[step.action]) for step in plan.steps
    )
    text = plantext.ending([(chain(), plan, outcomes)], "f.yaml", Decimal(1), 9, interrupted=False)
    told = "waiting: noon, dusk (for the approval of dawn: make it, pick a take with `klingflow takes`, merge it)\n"
    assert text.startswith(told)
    assert "2 clips made, 2 waiting" in text


# -- the storyboard


def test_a_gate_is_declared_on_a_shot_or_for_all_and_taken_away() -> None:
    from tests.storyboards import film as read

    text = "klingflow: 1\ndefaults: {gate: approved}\nshots:\n- {id: a, prompt: a}\n- {id: b, prompt: b, gate: null}\n"
    assert [one.gate for one in read(text).shots] == ["approved", None]
    assert read("klingflow: 1\nshots: [{id: a, prompt: a}]\n").shots[0].gate is None


def test_a_clip_of_ones_own_has_no_take_to_pick() -> None:
    found = faults("klingflow: 1\nshots:\n- {id: a, clip: a.mp4, gate: approved}\n")
    assert found == ["3:24 exclusive: 'gate' waits for a pick among takes, but 'a' brings one of its own"]
    assert faults("klingflow: 1\ndefaults: {gate: approved}\nshots:\n- {id: a, clip: a.mp4}\n") == []


def test_check_warns_where_nothing_can_be_merged(project: Project) -> None:
    board = project.write("film.yaml", "klingflow: 1\nshots:\n- {id: a, prompt: a, gate: approved}\n")
    loaded, problems = StoryboardFile(path=str(board)).inspect()
    assert [(p.rule, p.severity, p.span.line) for p in problems if p.span] == [("gate-no-git", Severity.WARNING, 3)]
    assert loaded is not None
    assert approvals.unapproved(loaded)("", ShotId("a"), pick()) == ""
    git(project.root, "init", "-q")
    assert StoryboardFile(path=str(board)).inspect()[1] == []


# -- the approved ref


@pytest.fixture
def desk(tmp_path: Path) -> Clone:
    """A repository with one commit on `main`: a storyboard with a gate, and no lock."""
    desk = Clone(tmp_path / "desk", {})
    desk.root.mkdir()
    desk.git("init", "-q", "-b", "main")
    desk.write("films/film.yaml", "klingflow: 1\nshots:\n- {id: a, prompt: a, gate: approved}\n")
    desk.git("add", "-A")
    desk.git("commit", "-q", "-m", "one")
    return desk


def asked(desk: Clone, chosen: Pick | None = None, **environ: str) -> str:
    """What is left to do for a pick that stands in the working tree."""
    loaded, _ = StoryboardFile(path=str(desk.root / "films/film.yaml"), environ=environ).inspect()
    assert loaded is not None
    return approvals.unapproved(loaded)("", ShotId("a"), chosen or pick())


def committed(desk: Clone, *picks: Pick) -> None:
    lock = Lock()
    for one in picks:
        lock = locks.with_pick(lock, "", "a", one)
    desk.write("films/film.lock.yaml", locks.dump(lock))
    desk.git("add", "-A")
    desk.git("commit", "-q", "--allow-empty", "-m", "lock")


def test_without_a_remote_a_commit_approves(desk: Clone) -> None:
    assert asked(desk) == "take 1 is picked, commit it (film.lock.yaml)"
    desk.write("films/film.lock.yaml", locks.dump(locks.with_pick(Lock(), "", "a", pick())))
    desk.git("add", "-A")
    assert asked(desk) == "take 1 is picked, commit it (film.lock.yaml)"
    committed(desk, pick())
    assert asked(desk) == ""
    assert asked(desk, pick(2)) == "take 2 is picked, commit it (film.lock.yaml)"
    assert asked(desk, pick(clip=Digest("22" * 32))) != ""


def test_the_default_branch_of_the_remote_approves_and_not_the_branch_that_proposes(desk: Clone) -> None:
    bare = desk.root.parent / "bare.git"
    git(desk.root.parent, "clone", "-q", "--bare", str(desk.root), str(bare))
    desk.git("remote", "add", "origin", str(bare))
    assert asked(desk).startswith(
        "take 1 is picked, and whether that is merged is not known: this clone does not say which branch of origin is "
        "the default (git remote set-head origin --auto, or name a ref in KLINGFLOW_APPROVED_REF)"
    )
    desk.git("fetch", "-q", "origin")
    desk.git("checkout", "-q", "-b", "proposal")
    committed(desk, pick())
    desk.git("tag", "origin/main")  # git would take it for the branch
    assert asked(desk) == NOT_YET
    desk.git("push", "-q", "origin", "HEAD:proposal")
    assert asked(desk) == NOT_YET
    desk.git("push", "-q", "origin", "HEAD:refs/heads/main")
    assert asked(desk) == ""
    # Merged by others as another commit: the last commit that this branch has in common with it has no pick.
    desk.git("checkout", "-q", "-b", "squashed", "main")
    committed(desk, pick())
    desk.git("commit", "-q", "--amend", "-m", "the same in other words")
    desk.git("push", "-q", "-f", "origin", "HEAD:refs/heads/main")
    desk.git("checkout", "-q", "proposal")
    assert asked(desk) == ""
    desk.git("push", "-q", "-f", "origin", "main:refs/heads/main")  # taken back
    assert asked(desk) == NOT_YET
    desk.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    assert asked(desk) == NOT_YET, "not what the tag has"


def test_a_branch_of_the_usual_name_is_the_default_where_only_one_is_there(desk: Clone) -> None:
    desk.git("remote", "add", "origin", "nowhere")
    desk.git("update-ref", "refs/remotes/origin/master", "HEAD")
    assert asked(desk) == NOT_YET.replace("main", "master")
    desk.git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert "does not say which branch of origin is the default" in asked(desk)
    desk.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    assert asked(desk) == NOT_YET


def test_the_environment_names_another_ref_and_no_file_does(desk: Clone) -> None:
    desk.git("checkout", "-q", "-b", "release")
    committed(desk, pick())
    assert asked(desk, KLINGFLOW_APPROVED_REF="main") == NOT_YET.replace("origin/", "")
    assert asked(desk, KLINGFLOW_APPROVED_REF="release") == ""
    unknown = "take 1 is picked, and whether that is merged is not known: "
    assert asked(desk, KLINGFLOW_APPROVED_REF="no/such").startswith(f"{unknown}git knows no commit no/such here")
    assert asked(desk, KLINGFLOW_APPROVED_REF="--upload-pack=x").startswith(f"{unknown}'--upload-pack=x' is not a git")


def test_a_lock_that_cannot_be_read_at_the_ref_approves_nothing(desk: Clone) -> None:
    desk.write("films/film.lock.yaml", "klingflow_lock: 1\npicks: {shots: {a: {take: 1}}}\n")
    desk.git("add", "-A")
    desk.git("commit", "-q", "-m", "broken")
    assert asked(desk).startswith("take 1 is picked, and whether that is merged is not known: ")


# -- money


def board(text: str) -> str:
    return (
        "klingflow: 1\ndefaults: {provider: hiapi, duration: 3, resolution: 720p}\nfilm: {shots: [dawn]}\nshots:\n"
        f"- {{id: dawn, prompt: dawn, gate: approved}}\n- {{id: noon, continues: dawn, prompt: {text}}}\n"
    )


def test_nothing_is_bought_behind_a_gate_until_the_pick_is_merged(tmp_path: Path) -> None:
    with HiAPI() as api:
        studio = test_branches.Studio.__new__(test_branches.Studio)
        studio.folder, studio.api, studio.bare = tmp_path, api, tmp_path / "remote.git"
        git(tmp_path, "init", "-q", "--bare", "-b", "main", str(studio.bare))
        desk = Clone(tmp_path / "desk", {**api.environment(), "KLINGFLOW_STORE": str(tmp_path / "store")})
        desk.root.mkdir()
        desk.git("init", "-q", "-b", "main")
        desk.git("remote", "add", "origin", str(studio.bare))
        desk.write(".gitignore", "/.klingflow/\n/out/\n")
        desk.write("film.yaml", board("noon"))
        ran = desk.films()
        assert "waiting: noon (for the approval of dawn: " in ran.err
        desk.push("main")
        desk.git("fetch", "-q", "origin")
        assert dict(studio.bought()) == {"dawn": 1}
        frozen = desk.run("run", "film.yaml", "--frozen", "--json", "--quiet")
        assert frozen.code == 0
        events = [json.loads(line) for line in frozen.out.splitlines()]
        assert [(e["shot"], e["reason"]) for e in events if e["event"] == "step-waiting"] == [
            ("noon", "waits for the approval of dawn: pick a take with `klingflow takes`, merge it")
        ]
        assert events[-1]["waiting"] == 1
        assert desk.up_to_date()

        desk.git("checkout", "-q", "-b", "choice")
        path = desk.root / "film.lock.yaml"
        _picked(path)
        for _ in range(2):  # in the working tree, and committed on a branch
            desk.films()
            assert dict(studio.bought()) == {"dawn": 1}
        desk.push("main")
        assert not desk.up_to_date()
        desk.films()
        assert dict(studio.bought()) == {"dawn": 1, "noon": 1}
        assert locks.parse(_document(path)).pick("", "dawn") is not None, "a run keeps the pick"
        assert api.trouble == []


def _document(path: Path) -> object:
    from klingflow.storyboard import yamlread

    return yamlread.read(path.name, path.read_text("utf-8"))


def _picked(path: Path) -> None:
    lock = locks.parse(_document(path))
    found = lock.entry("", ShotId("dawn"), 1)
    assert found is not None
    path.write_text(locks.dump(locks.with_pick(lock, "", "dawn", pick(clip=found.clip))), "utf-8")
