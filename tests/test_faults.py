"""What goes wrong between the command and an API, on real sockets: what is bought, what is said, what comes next."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import standins
from tests.cli import Ended
from tests.paid_helpers import CHAIN, LAST, asked, bought, hurried, sellers, studio
from tests.standins import Exchange, Outcome, Thief

KEYS = {
    "hiapi": "HIAPI_API_KEY",
    "mulerouter": "MULEROUTER_API_KEY",
    "fal": "FAL_KEY",
    "kling": "KLING_SECRET_KEY",
}
POLLS = {"hiapi": "GET /v1/tasks", "mulerouter": "GET /vendors", "fal": "GET /fal-ai", "kling": "GET /v1/videos"}
ENDS: dict[str, dict[str, Outcome]] = {
    "hiapi": {
        "moderated": Outcome(fail=("content_policy", "blocked: the boat shows a flag")),
        "invalid": Outcome(fail=("TASK_FAILED", "the prompt cannot be read")),
        "broken": Outcome(fail=("TASK_TIMEOUT", "a machine fell over")),
        "busy": Outcome(fail=("model_error", "the model is busy and timed out, try again")),
    },
    "mulerouter": {
        "moderated": Outcome(fail=(3005, "blocked: the boat shows a flag")),
        "invalid": Outcome(fail=(2001, "the prompt cannot be read")),
        "broken": Outcome(fail=(4008, "a machine fell over")),
        "busy": Outcome(fail=(3002, "the model is busy and timed out, try again")),
    },
    "fal": {
        "moderated": Outcome(fail=("content_policy_violation", "blocked: the boat shows a flag")),
        "invalid": Outcome(fail=("value_error", "the prompt cannot be read")),
        "broken": Outcome(fail=(("runner_disconnected", 503), "a machine fell over")),
        "busy": Outcome(fail=("odd", "the model is busy and timed out, try again")),
    },
    # Kling gives a reason as a text alone, so nothing says that a machine fell over.
    "kling": {
        "moderated": Outcome(fail=("", "blocked: the boat shows a flag (risk control)")),
        "invalid": Outcome(fail=("", "the prompt cannot be read")),
        "busy": Outcome(fail=("", "the model is busy and timed out, try again")),
    },
}

LOST = {
    "closed unread": standins.drop_before,
    "closed after reading": standins.drop_after,
    "reset": standins.reset_after,
    "half JSON": standins.half_json,
    "no id": standins.answer(200, {}, process=True),
    "gateway, taken": standins.html(502, process=True),
    "gateway, not taken": standins.html(502),
    "server error": standins.answer(500, {"message": "boom"}),
    "not available, taken": standins.answer(503, {"code": 503, "message": "busy"}, {"Retry-After": "1"}, process=True),
    "not available": standins.html(503),
}


def words(*names: str, provider: str = "NAME") -> str:
    """A storyboard of text-to-video shots, of which the film shows only the first: joining clips takes time."""
    shots = "".join(f"\n      - {{id: {name}, prompt: the {name}}}" for name in names)
    return f"""
    klingflow: 1
    title: Words
    defaults: {{provider: {provider}, duration: 3, resolution: 720p, aspect_ratio: "16:9"}}
    film: {{shots: [{names[0]}]}}
    shots:{shots}
"""


def names(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


def complaint(ended: Ended, shot: str) -> str:
    """What the end of a run says of one shot, with its place, cost and mend."""
    found = [part for part in ended.err.split("\n\n") if f": shot '{shot}' " in part]
    assert len(found) == 1, ended.err
    start = found[0].index(f"shot '{shot}' ")
    return found[0][found[0].rindex("film.yaml:", 0, start) :]


# Lost answers -------------------------------------------------------------------------------------------------------


def test_at_hiapi_every_lost_answer_is_asked_for_again_with_the_same_key_and_bytes(tmp_path: Path) -> None:
    with hurried(tmp_path, "hiapi", words(*names(len(LOST)))) as (project, api):
        for fault in LOST.values():
            api.faults.add("POST", fault)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        prompts = sorted(asked(one)["prompt"] for one in api.purchases)
        assert prompts == sorted(f"the {name}" for name in names(len(LOST)))
        sent: dict[str, set[bytes]] = {}
        for seen in api.calls("POST"):
            sent.setdefault(seen.headers["idempotency-key"], set()).add(seen.body)
        assert len(sent) == len(LOST)
        assert all(len(bodies - {b""}) == 1 for bodies in sent.values()), "a replay is the same to the byte"
        assert "$2.52 booked" in ran.said, "a replay costs nothing"


@pytest.mark.parametrize("name", ["mulerouter", "fal"])
def test_where_nothing_can_be_asked_a_lost_answer_stops_its_shot_and_no_other(tmp_path: Path, name: str) -> None:
    with hurried(tmp_path, name, words(*names(len(LOST) + 2))) as (project, api):
        for fault in LOST.values():
            api.faults.add("POST", fault)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        posts = len(api.calls("POST"))
        assert posts == len(LOST) + 2
        assert ran.err.count("is in doubt: ") == len(LOST)
        assert f"2 clips made, {len(LOST)} in doubt" in ran.err
        doubted = next(name for name in names(12) if f"shot '{name}' is in doubt" in ran.err)
        said = complaint(ran, doubted)
        assert said.startswith("film.yaml:")
        assert "^" in said
        assert "$0.25 if it was taken" in said
        assert f"klingflow resolve film.yaml {doubted} --task ID" in said
        assert f"klingflow resolve film.yaml {doubted} --not-bought" in said
        again = project.run("run", "film.yaml", "--yes")
        assert again.code == 4, again.said
        assert len(api.calls("POST")) == posts, "nothing in doubt is ever sent again unasked"


def test_at_kling_a_lost_order_is_found_by_the_id_that_klingflow_gave_it(tmp_path: Path) -> None:
    with hurried(tmp_path, "kling", words(*names(len(LOST)))) as (project, api):
        for fault in LOST.values():
            api.faults.add("POST", fault)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        prompts = sorted(asked(one)["prompt"] for one in api.purchases)
        assert prompts == sorted(f"the {name}" for name in names(len(LOST)))
        taken = {one.token for one in api.purchases}
        assert len(taken) == len(LOST)
        asked_after = {seen.path.rpartition("/")[2] for seen in api.calls("GET /v1/videos/omni-video/kf1-")}
        assert asked_after
        assert asked_after <= taken
        refused = [seen for seen in api.calls("POST") if seen.status == 400]
        assert refused == [], "what is found is not ordered again"
        assert "$2.52 booked" in ran.said, "asking and sending again cost nothing"


def test_an_order_that_kling_denies_and_then_refuses_as_known_is_collected_and_not_bought_again(tmp_path: Path) -> None:
    with hurried(tmp_path, "kling", words("one")) as (project, api):
        api.faults.add("POST", standins.drop_after)
        gone = standins.answer(404, {"code": 1203, "message": "task not found", "request_id": "r"})
        api.faults.add("GET /v1/videos/omni-video/kf1-", gone)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1
        assert [seen.status for seen in api.calls("POST")] == [0, 400]


# A definite no ------------------------------------------------------------------------------------------------------


@sellers
def test_who_is_told_to_wait_waits_as_long_and_buys_once(tmp_path: Path, name: str) -> None:
    with studio(tmp_path, name, words("one", "two")) as (project, api):
        api.faults.add("POST", standins.answer(429, {"message": "slow down"}, {"Retry-After": "2"}), times=2)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        posts = api.calls("POST")
        refused = max(seen.at for seen in posts if seen.status == 429)
        assert min(seen.at for seen in posts if seen.status != 429) - refused >= 1.9


@sellers
def test_an_empty_account_is_told_and_asked_no_more_in_this_run(tmp_path: Path, name: str) -> None:
    with hurried(tmp_path, name, words(*names(6)), credit=1) as (project, api):
        project.write("klingflow.yaml", f"providers: {{{name}: {{concurrency: 1}}}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert len(api.calls("POST")) == 2
        assert f"top up the account at {name}" in ran.err
        assert "$0.25 booked" in ran.err
        api.credit = 9
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 6


@sellers
def test_a_refused_key_is_a_matter_of_configuration(tmp_path: Path, name: str) -> None:
    with hurried(tmp_path, name, words("one")) as (project, api):
        variable = KEYS[name]
        ran = project.run("run", "film.yaml", "--yes", **{variable: "sk-not-this-one-0000"})
        assert ran.code == 2, ran.said
        assert f"{name} refuses the key (HTTP 401); nothing was ordered" in ran.err
        assert "`klingflow doctor`" in ran.err
        assert api.calls("POST") == []
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 1


# How tasks end ------------------------------------------------------------------------------------------------------


@sellers
def test_each_bad_end_of_a_task_has_its_own_rule(tmp_path: Path, name: str) -> None:
    ends = {
        **ENDS[name],
        "stopped": Outcome(word="cancelled"),
        "empty": Outcome(no_output=True),
        "short": Outcome(seconds=1),
        "page": Outcome(clip=b"<html>sorry</html>"),
    }
    tries = 2 if "broken" in ends else 0
    options = {"errors": "async"} if name == "mulerouter" else {}
    with hurried(tmp_path, name, words("good", "late", *ends), **options) as (project, api):
        for shot, outcome in ends.items():
            api.becomes(outcome, prompt=f"the {shot}", times=-1)
        api.becomes(Outcome(expires_s=0.0), prompt="the late")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "blocked: the boat shows a flag" in complaint(ran, "moderated")
        assert "change the prompt or the images of 'moderated'" in complaint(ran, "moderated")
        assert "the prompt cannot be read" in complaint(ran, "invalid")
        assert not tries or "a machine fell over" in complaint(ran, "broken")
        assert "the model is busy and timed out, try again" in complaint(ran, "busy")
        assert "calls the task cancelled" in complaint(ran, "stopped")
        assert "names no video" in complaint(ran, "empty")
        assert "its clip lasts 1.000 s where 3 s were ordered" in complaint(ran, "short")
        assert "its clip did not come" in complaint(ran, "page")
        assert "run again to fetch it" in complaint(ran, "page")
        assert "is not finished" in complaint(ran, "empty")
        assert "asks again, buying nothing" in complaint(ran, "empty")
        assert all("$0.25 booked" in complaint(ran, shot) for shot in ends if shot not in ("broken", "empty"))
        assert not tries or "$0.50 booked" in complaint(ran, "broken")
        counted = [asked(one)["prompt"] for one in api.purchases]
        assert {shot: counted.count(f"the {shot}") for shot in ["good", "late", *ends]} == {
            **dict.fromkeys(["good", "late", *ends], 1),
            **({"broken": 2} if tries else {}),
        }
        assert len(bought(api, "the late").issues) == 2, "a dead URL is replaced by a fresh one"

        again = project.run("run", "film.yaml", "--yes")
        assert again.code == 1, again.said
        counted = [asked(one)["prompt"] for one in api.purchases]
        assert counted.count("the broken") == 2 * tries, "what their side broke is ordered again by a later run"
        assert len(counted) == 2 + len(ends) + (3 if tries else 0)
        assert "this very order was tried before" in complaint(again, "moderated")
        assert "blocked: the boat shows a flag" in complaint(again, "moderated")


@sellers
def test_a_task_id_of_any_shape_is_bought_once_and_collected(tmp_path: Path, name: str) -> None:
    ids = {"number": 12345678901234567890123, "base": "ab+/cd==", "path": "../a b?c#d", "sign": "任务 7"}
    ids["long"] = "x" * 3000
    with hurried(tmp_path, name, words(*ids)) as (project, api):
        for shot, task in ids.items():
            api.becomes(Outcome(task=task), prompt=f"the {shot}")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == len(ids)
        locked = yaml.safe_load((project.root / "film.lock.yaml").read_text("utf-8"))
        assert [one for one in map(str, ids.values()) if one not in str(locked)] == []
        again = project.run("run", "film.yaml", "--yes")
        assert f"{len(ids)} reused" in again.said
        assert len(api.purchases) == len(ids)


@sellers
def test_a_refused_continuation_says_which_clip_its_frame_came_from(tmp_path: Path, name: str) -> None:
    with hurried(tmp_path, name) as (project, api):
        refused = standins.answer(400, {"message": "content policy", "detail": "content policy: a flag"})
        api.faults.add("POST", refused, after=1)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        said = " ".join(complaint(ran, "noon").split())
        assert "content policy" in said
        assert "last frame of" in said
        assert "dawn" in said
        assert said.startswith("film.yaml:8:9")
        clip = json.loads(project.run("plan", "film.yaml", "--format", "json").out)["steps"][0]["clip"]
        assert clip[:12] in said


@sellers
def test_an_unknown_word_and_a_storm_of_bad_polls_lose_nothing(tmp_path: Path, name: str) -> None:
    with hurried(tmp_path, name, words("one", "two", "three")) as (project, api):
        strange = Outcome(word="pondering")
        api.becomes(strange, prompt="the one")
        polls = POLLS[name]
        for fault in (
            standins.html(502),
            standins.reset_after,
            standins.half_json,
            standins.answer(429, {}, {"Retry-After": "1"}),
        ):
            api.faults.add(polls, fault)
        running = project.start("run", "film.yaml", "--yes")
        deadline = time.monotonic() + 60
        while len([seen for seen in api.calls(polls) if seen.status == 200]) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        strange.word = None
        _, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        assert len(api.purchases) == 3


# Downloads ----------------------------------------------------------------------------------------------------------


def test_a_clip_arrives_whole_or_not_at_all(tmp_path: Path) -> None:
    faults = [
        standins.cut(),
        standins.wrong_length(),
        standins.no_length(0.5),
        standins.no_length(),
        standins.xml(200),
        standins.xml(403),
        standins.gzipped,
        standins.html(503),
        standins.reset_after,
    ]
    with hurried(tmp_path, "hiapi", words(*names(len(faults)))) as (project, api):
        for fault in faults:
            api.faults.add("GET /files/", fault)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == len(faults)
        for one in api.purchases:
            shot = asked(one)["prompt"].removeprefix("the ")
            assert (project.root / f"out/film/shots/{shot}.mp4").read_bytes() == api.clip(one)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest/meta-data", "https://10.0.0.7/clip.mp4", "https://user:pw@127.0.0.1/clip.mp4"]
)
def test_a_result_that_lies_at_a_private_address_is_not_fetched(tmp_path: Path, url: str) -> None:
    with hurried(tmp_path, "mulerouter", words("one")) as (project, api):
        api.url = lambda purchase: (url, 0.0)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "paid" in complaint(ran, "one")
        assert "user:pw" not in ran.said
        del api.url
        assert project.run("run", "film.yaml", "--yes").code == 0, "the task is collected once it has an address"
        assert len(api.purchases) == 1


# Keys ---------------------------------------------------------------------------------------------------------------


@sellers
def test_no_redirect_carries_the_key_away(tmp_path: Path, name: str) -> None:
    with Thief() as thief, hurried(tmp_path, name, words("one", "two", "three")) as (project, api):
        project.write("klingflow.yaml", f"providers: {{{name}: {{concurrency: 1}}}}\n")
        api.faults.add("POST", standins.redirect(f"{thief.base_url}/v1/tasks", 307), after=1)
        api.faults.add(POLLS[name], standins.redirect(f"{thief.base_url}/v1/tasks/x", 302))
        api.faults.add("GET /files/", standins.redirect(f"{thief.base_url}/loot.mp4", 302))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 2, ran.said
        assert "redirect" in ran.err
        assert "base URL" in ran.err
        assert len(api.purchases) == 1
        assert len(api.calls("POST")) == 2, "an address that sends orders elsewhere gets no more of them"
        assert thief.stolen == []
        assert {seen.line for seen in thief.requests} <= {"GET /loot.mp4"}, "a download may go there, without the key"
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 3


def test_a_secret_stands_in_nothing_that_is_written_or_said(tmp_path: Path) -> None:
    key, secret = "CANARYkey-7f3a91c2d4", "CANARYhook-55aa66bb77"

    def echo(exchange: Exchange) -> None:
        said = exchange.seen.headers.get("authorization", "")
        standins.answer(400, {"code": 400, "message": f"no good: {said} {key} https://h.example/p?token={key}"})(exchange)

    with hurried(tmp_path, "hiapi", key=key) as (project, api):
        extra = {"HIAPI_WEBHOOK_SECRET": secret}
        said = []
        api.faults.add("POST", echo)
        said.append(project.run("run", "film.yaml", "--yes", **extra))
        api.faults.add("POST", standins.drop_after)
        api.faults.add("GET /files/", standins.xml(403))
        said.append(project.run("run", "film.yaml", "--yes", "--json", **extra))
        assert said[-1].code == 0, said[-1].said
        for command in (
            ["status", "film.yaml"],
            ["status", "film.yaml", "--format", "json"],
            ["plan", "film.yaml", "--format", "json"],
            ["takes", "film.yaml"],
            ["doctor"],
        ):
            said.append(project.run(*command, **extra))
        assert "no good" in said[0].said
        spoken = "".join(ended.said for ended in said)
        written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert any("/ledger/" in path for path in written)
        for canary in (key, secret, "X-Amz-Signature="):
            assert canary not in spoken
            assert [path for path, data in written.items() if canary.encode() in data] == []


# The event stream ---------------------------------------------------------------------------------------------------


def test_the_events_of_a_run_tell_what_was_ordered_and_how_it_ended(tmp_path: Path) -> None:
    with hurried(tmp_path, "mulerouter", CHAIN) as (project, api):
        api.faults.add("POST", standins.drop_after, after=1)
        ran = project.run("run", "film.yaml", "--yes", "--json")
        assert ran.code == 4
        events = [json.loads(line) for line in ran.out.splitlines()]
        kinds = [event["event"] for event in events]
        assert kinds[0] == "plan"
        assert kinds[-1] == "done"
        done: dict[str, Any] = events[-1]
        assert (done["exit_code"], done["made"], done["in_doubt"], done["spent"]) == (4, 1, 1, 0.504)
        (submitted,) = [event for event in events if event["event"] == "submitted"]
        assert submitted["task"] == api.purchases[0].task
        (doubt,) = [event for event in events if event["event"] == "step-in-doubt"]
        assert doubt["shot"] == "noon"
        assert bought(api, "noon comes").numbers == {"first_frame": (1, LAST)}




# One model, several sellers ------------------------------------------------------------------------------------------


def test_a_clip_that_one_seller_made_satisfies_every_other(tmp_path: Path) -> None:
    with hurried(tmp_path, "kling", words("one")) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        for other in ("hiapi", "mulerouter", "fal"):
            planned = project.run("plan", "film.yaml", "--provider", other, "--exit-code")
            assert planned.code == 0, planned.said
        assert len(api.purchases) == 1


def test_what_was_ordered_from_a_store_that_is_lost_is_the_same_task_at_kling(tmp_path: Path) -> None:
    with hurried(tmp_path, "kling", words("one")) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        for lost in (".klingflow", "out", "film.lock.yaml", "film.tasks.jsonl"):
            path = project.root / lost
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1
        assert [seen.status for seen in api.calls("POST")] == [200, 400]


def test_at_fal_a_doubt_is_settled_by_its_request_id(tmp_path: Path) -> None:
    with hurried(tmp_path, "fal", words("one")) as (project, api):
        api.faults.add("POST", standins.drop_after)
        assert project.run("run", "film.yaml", "--yes").code == 4
        settled = project.run("resolve", "film.yaml", "one", "--task", api.purchases[0].task)
        assert settled.code == 0, settled.said
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 1
