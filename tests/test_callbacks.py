"""Callbacks on real sockets: they wake who waits, are never believed, and are never needed."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import standins
from tests.paid_helpers import asked, studio
from tests.standins.hiapi import HiAPI

ONE = """
    klingflow: 1
    title: One
    defaults: {provider: NAME, duration: 3, resolution: 720p, aspect_ratio: "16:9"}
    shots:
      - {id: one, prompt: the one}
"""
PUBLIC = "https://callbacks.example.com/studio/hiapi"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def through(api: HiAPI, port: int) -> Callable[..., int]:
    """The way in from the internet: what is sent to the public URL arrives at the receiver's port."""
    send = api.call

    def call(bought: Any, url: str, **options: Any) -> int:
        return send(bought, f"http://127.0.0.1:{port}{urlsplit(url).path}", **options)

    api.call = call  # type: ignore[method-assign]
    return call


def until(seen: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


def polls(api: Any, after: float) -> list[float]:
    return [seen.at - after for seen in api.calls("GET /v") if seen.at >= after]


def test_a_callback_of_hiapi_is_ordered_and_wakes_who_waits(tmp_path: Path, port: int) -> None:
    with studio(tmp_path, "hiapi", ONE, finish_s=6.0) as (project, api):
        through(api, port)
        where = ["--listen", f"127.0.0.1:{port}", "--callback-url", PUBLIC]
        ran = project.run("run", "film.yaml", "--yes", *where)
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert one.body["callback"] == {"url": PUBLIC, "when": "final"}
        assert [delivery.status for delivery in api.deliveries] == [200]
        assert polls(api, one.at + 6.0)[0] < 0.6, "the next question followed the callback, not the clock"


def test_forged_stale_and_early_callbacks_change_nothing_and_lost_ones_cost_a_poll(tmp_path: Path, port: int) -> None:
    with studio(tmp_path, "hiapi", ONE, finish_s=4.0, callback_waits=()) as (project, api):
        call = through(api, port)
        where = ["--listen", f"127.0.0.1:{port}", "--callback-url", PUBLIC]
        running = project.start("run", "film.yaml", "--yes", *where)
        until(lambda: api.purchases and polls(api, api.purchases[0].at), "the first poll")
        (one,) = api.purchases
        assert call(one, PUBLIC, secret="somebody else's") == 404
        assert call(one, PUBLIC, secret="") == 404
        assert call(one, PUBLIC, at=time.time() - 301) == 404
        assert call(one, "https://callbacks.example.com/elsewhere") == 404
        body = json.dumps({"taskId": one.task, "status": "success", "output": [{"type": "video", "url": "http://10.0.0.1/x"}]})
        for headers in ({}, {"X-HiAPI-Timestamp": str(int(time.time())), "X-HiAPI-Signature": "0" * 64}):
            wanted = {"Content-Type": "application/json", **headers}
            request = urllib.request.Request(f"http://127.0.0.1:{port}/hiapi", body.encode(), wanted)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=60)
            assert refused.value.code == 404
            refused.value.close()
        before = len(polls(api, 0.0))
        assert call(one, PUBLIC) == 200, "true, but early: the task is still being made"
        until(lambda: len(polls(api, 0.0)) > before, "the question that an early callback leads to")
        _, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        assert "a callback to hiapi was refused" in err
        assert len(api.purchases) == 1
        assert len(api.calls("GET /files/")) == 1


def test_mulerouters_events_wake_too(tmp_path: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}/mulerouter"
    with studio(tmp_path, "mulerouter", ONE, finish_s=6.0, webhook_url=url) as (project, api):
        ran = project.run("run", "film.yaml", "--yes", "--listen", f"127.0.0.1:{port}")
        assert ran.code == 0, ran.said
        assert "callback" not in api.purchases[0].body
        assert polls(api, api.purchases[0].at + 6.0)[0] < 0.6


def test_listen_collects_what_a_detached_run_left(tmp_path: Path, port: int) -> None:
    board = ONE + "      - {id: two, prompt: the two}\n"
    with studio(tmp_path, "hiapi", board, finish_s=3600.0, callback_waits=()) as (project, api):
        call = through(api, port)
        where = ["--listen", f"127.0.0.1:{port}"]
        left = project.run("run", "film.yaml", "--yes", "--detach", *where, "--callback-url", PUBLIC)
        assert left.code == 7, left.said
        listening = project.start("listen", "film.yaml", *where)
        until(lambda: polls(api, time.time() - 0.5), "the listener's first question")
        api.finish_s = 0.01
        for one in api.purchases:
            until(lambda one=one: call(one, "https://h.example/hiapi") == 200, "the receiver")
        until(lambda: (project.root / "film.lock.yaml").exists(), "the lock")
        listening.terminate()
        _, err = listening.communicate(timeout=30)
        assert listening.returncode == 0, err
        assert "collected" in err
        posts = len(api.calls("POST"))
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.calls("POST")) == posts == 2
        assert sorted(asked(one)["prompt"] for one in api.purchases) == ["the one", "the two"]


def test_a_receiver_is_not_opened_without_its_secret_or_with_a_plain_url(tmp_path: Path, port: int) -> None:
    with studio(tmp_path, "hiapi", ONE) as (project, api):
        where = ["--listen", f"127.0.0.1:{port}"]
        plain = project.run("run", "film.yaml", "--yes", *where, "--callback-url", "http://h.example/x")
        assert (plain.code, "https" in plain.err) == (2, True)
        bare = project.run("run", "film.yaml", "--yes", *where, HIAPI_WEBHOOK_SECRET="")
        assert (bare.code, "HIAPI_WEBHOOK_SECRET" in bare.err) == (2, True)
        alone = project.run("run", "film.yaml", "--yes", "--callback-url", PUBLIC)
        assert (alone.code, "--listen" in alone.err, "--detach" in alone.err) == (2, True, True)
        left = project.run("run", "film.yaml", "--yes", "--detach", "--callback-url", "http://h.example/x")
        assert (left.code, "https" in left.err) == (2, True)
        assert api.requests == []


def test_a_detached_run_names_a_receiver_on_another_machine(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", ONE, finish_s=3600.0, callback_waits=()) as (project, api):
        left = project.run("run", "film.yaml", "--yes", "--detach", "--callback-url", PUBLIC, HIAPI_WEBHOOK_SECRET="")
        assert left.code == 7, left.said
        assert api.purchases[0].body["callback"] == {"url": PUBLIC, "when": "final"}
        assert "listening" not in left.said


def test_a_callback_of_fal_is_believed_by_the_keys_that_fal_publishes(tmp_path: Path, port: int) -> None:
    with studio(tmp_path, "fal", ONE, finish_s=1.0) as (project, api):
        through(api, port)
        where = ["--listen", f"127.0.0.1:{port}", "--callback-url", PUBLIC]
        ran = project.run("run", "film.yaml", "--yes", *where)
        assert ran.code == 0, ran.said
        assert api.calls("POST")[0].query == {"fal_webhook": PUBLIC}
        assert [answered for _, answered in api.deliveries] == [200]
        (keys,) = api.calls("GET /.well-known/jwks.json")
        assert "authorization" not in keys.headers


def test_where_fals_keys_cannot_be_had_nothing_is_believed_and_polls_go_on(tmp_path: Path, port: int) -> None:
    with studio(tmp_path, "fal", ONE, finish_s=1.0) as (project, api):
        through(api, port)
        api.faults.add("GET /.well-known/jwks.json", standins.answer(404), times=-1)
        where = ["--listen", f"127.0.0.1:{port}", "--callback-url", PUBLIC]
        ran = project.run("run", "film.yaml", "--yes", *where)
        assert ran.code == 0, ran.said
        assert "callbacks of fal are not believed: its keys at " in ran.err
        assert {answered for _, answered in api.deliveries} <= {404, 0}


def test_a_callback_of_kling_is_ordered_and_believed(tmp_path: Path, port: int) -> None:
    with studio(tmp_path, "kling", ONE, finish_s=1.0) as (project, api):
        through(api, port)
        where = ["--listen", f"127.0.0.1:{port}", "--callback-url", PUBLIC]
        ran = project.run("run", "film.yaml", "--yes", *where)
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert one.body["callback_url"] == PUBLIC
        assert {(told, answered) for _, told, answered in api.deliveries} >= {("processing", 200), ("succeed", 200)}
