"""A plan as a file: written by `plan --out` and `plan --format json`, read by `run --plan`.

The format is schemas/plan.schema.json. A plan file may come from a job that is not trusted: reading one opens no
other file and no connection, and its content is never obeyed. A run makes its own plan and compares; the file can
only make it refuse.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from klingflow import __version__
from klingflow.core.digest import PartChange
from klingflow.core.errors import UsageError
from klingflow.core.model import Digest, Key, ShotId
from klingflow.core.redact import redact
from klingflow.core.source import Document, Problem, Severity, inert, visible
from klingflow.planning.compare import Base, Comparison, FieldChange
from klingflow.planning.gates import Wait
from klingflow.planning.plan import Action, Dropped, FilmPlan, Later, Plan, Shortcut, Step, Totals, totals
from klingflow.planning.price import ESTIMATE, Limits, exact, exceeded
from klingflow.storyboard import schema

VERSION = 1
MOST_BYTES = 640 << 20
"""A plan of 100,000 shots with long prompts is a sixth of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The words of the command line that a plan depends on, besides the provider."""

    vars: Mapping[str, str] = field(default_factory=dict)
    select: str | None = None
    exclude: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan, and all that must not have moved when it is run."""

    plan: Plan
    inputs: Mapping[str, Digest]
    """Every file that the plan was made from, by path relative to the project root."""
    options: Options = Options()


def dump(saved: SavedPlan, *, base: Base | None = None, comparisons: Mapping[str, Comparison] | None = None) -> str:
    """The plan as JSON text that `load` reads; `comparisons` (by variant) are added for people, and not read back."""
    plan = saved.plan
    sums = totals(plan.films)
    films = [_film(film, (comparisons or {}).get(film.variant)) for film in plan.films]
    out: dict[str, object] = {
        "version": VERSION,
        "klingflow": __version__,
        "storyboard": plan.storyboard,
        "name": plan.films[0].name,
        "rehearsal": plan.rehearsal,
        "provider": plan.provider,
        "vars": dict(sorted(saved.options.vars.items())),
        "select": saved.options.select,
        "exclude": saved.options.exclude,
        "against": base.ref if base else None,
        "against_commit": base.commit if base else None,
        "inputs": dict(sorted(saved.inputs.items())),
        "in_flight": dict(sorted(plan.in_flight.items())),
        "limits": {
            "spend": _number(plan.limits.spend),
            "seconds": plan.limits.seconds,
            "tasks": plan.limits.tasks,
            "set_in": dict(sorted(plan.limits.set_in.items())),
            "refused": exceeded(plan.limits, sums.spend, sums.seconds, sums.tasks),
        },
        "paid": _number(plan.paid),
        "dropped": [
            {"film": clip.variant, "shot": clip.shot, "take": clip.take, "cost": _number(clip.cost), "gone": clip.gone}
            for clip in plan.dropped
        ],
    }
    if len(films) == 1 and not plan.films[0].variant:
        out |= films[0]
    else:
        heads = ({"variant": film.variant, "matrix": dict(film.matrix)} for film in plan.films)
        out["films"] = [head | film for head, film in zip(heads, films, strict=True)]
    out["totals"] = totals_json(sums)
    text = io.StringIO()  # `dumps` would hold a list of every little piece of it
    for piece in json.JSONEncoder(ensure_ascii=False, indent=2, allow_nan=False).iterencode(out):
        text.write(piece)
    return inert(text.getvalue()) + "\n"


def _film(film: FilmPlan, comparison: Comparison | None) -> dict[str, object]:
    out: dict[str, object] = {
        "title": film.title,
        "steps": [_step(step) for step in film.steps],
        "totals": totals_json(totals([film])),
        "warnings": [
            {
                "rule": problem.rule,
                "what": redact(problem.what),
                "mend": redact(problem.mend),
                "place": str(problem.span) if problem.span else None,
            }
            for problem in film.warnings
        ],
        "critical": list(film.critical),
        "chain_s": round(film.chain_s, 1),
        "wall_s": round(film.wall_s, 1),
        "length_s": None if film.length_s is None else round(film.length_s, 3),
        "shortcuts": [{"shot": s.shot, "meets": s.meets, "saves_s": round(s.saves_s, 1)} for s in film.shortcuts],
    }
    if comparison is not None:
        out["comparison"] = _comparison(comparison)
    return out


def _step(step: Step) -> dict[str, object]:
    return {
        "shot": step.shot,
        "take": step.take,
        "counted": step.is_active_take,
        "action": step.action.value,
        "reason": redact(step.reason),
        "changes": [{"field": c.field, "old": redact(c.old), "new": redact(c.new)} for c in step.changes],
        "key": step.key,
        "clip": step.clip,
        "needs": list(step.needs),
        "after": list(step.after),
        "waits_for": [{"shot": wait.shot, "frame": wait.frame} for wait in step.waits_for],
        "later": None if step.later is None else _later(step.later),
        "same_as": step.same_as,
        "same_as_film": step.same_as_film,
        "provider": step.provider,
        "model": step.model,
        "resolution": step.resolution,
        "sound": step.sound,
        "prompt": redact(step.prompt),
        "negative_prompt": redact(step.negative_prompt),
        "multi_shot": [{"prompt": redact(prompt), "seconds": seconds} for prompt, seconds in step.multi_shot],
        "seconds": step.seconds,
        "price": _number(step.price),
        "estimate": step.basis == ESTIMATE,
        "basis": step.basis,
        "depth": step.depth,
    }


def _later(later: Later) -> dict[str, object]:
    return {"seconds": later.seconds, "price": _number(later.price), "basis": later.basis}


def totals_json(sums: Totals) -> dict[str, object]:
    """The totals as written in the plan file and in the event stream."""
    return {
        "steps": {action.value: sums.steps.get(action.value, 0) for action in Action},
        "spend": _number(sums.spend),
        "seconds": sums.seconds,
        "tasks": sums.tasks,
        "later": {
            "spend": _number(sums.later.spend),
            "seconds": sums.later.seconds,
            "tasks": sums.later.tasks,
        },
    }


def _comparison(comparison: Comparison) -> dict[str, object]:
    cost = comparison.cost
    return {
        "shots": [
            {
                "shot": change.shot,
                "state": change.state.value,
                "was": change.was,
                "fields": [_changed(c) for c in change.fields],
                "depth": list(change.depth) if change.depth else None,
                "moved": list(change.moved) if change.moved else None,
                "unknown": _unknown(change.unknown),
            }
            for change in comparison.shots
        ],
        "film": [_changed(c) for c in comparison.film],
        "film_unknown": _unknown(comparison.film_unknown),
        "unread": [{"what": redact(problem.what), "mend": redact(problem.mend)} for problem in comparison.unread],
        "cost": {
            "to_buy": _number(cost.to_buy),
            "base_to_buy": _number(cost.base_to_buy),
            "change": _number(cost.change),
            "film": _number(cost.film),
            "base_film": _number(cost.base_film),
        },
    }


def _changed(change: FieldChange) -> dict[str, object]:
    return {"field": change.field, "old": redact(change.old), "new": redact(change.new), "buys": change.buys}


def _unknown(fields: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"field": name, "why": redact(why)} for name, why in fields]


def _number(amount: Decimal | None) -> float | int | None:
    """A price as a JSON number with exactly its decimal digits: up to 15 of them pass through a float unharmed."""
    if amount is None:
        return None
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def load(text: str | bytes, path: str = "plan.json") -> SavedPlan:
    """Reads a plan file; `path` is for messages alone. Raises UsageError for everything that `dump` would not write."""
    if len(text) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES >> 20} MiB: not a plan", _AGAIN)
    try:
        text = text.decode() if isinstance(text, bytes) else text
        data = json.loads(text, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply: not a plan", _AGAIN) from None
    except (ValueError, ArithmeticError) as fault:
        raise UsageError(f"{path} cannot be read as JSON: {visible(str(fault))[:200]}", _AGAIN) from fault
    version = data.get("version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise UsageError(f"{path} was written by a newer klingflow (plan version {str(version)[:10]})", _AGAIN)
    problems = schema.check(Document(path, "", data, dict), "plan")
    if problems:
        raise UsageError(f"{path} is not a plan: {problems[0].what}", _AGAIN)
    films = data.get("films", [data])
    return SavedPlan(
        plan=Plan(
            storyboard=data["storyboard"],
            films=tuple(_read_film(film, data["name"]) for film in films),
            rehearsal=data["rehearsal"],
            provider=data["provider"],
            in_flight=data.get("in_flight", {}),
            limits=_read_limits(data.get("limits", {})),
            paid=Decimal(data.get("paid", 0)),
            dropped=tuple(_read_dropped(clip) for clip in data.get("dropped", [])),
        ),
        inputs=data["inputs"],
        options=Options(vars=data["vars"], select=data["select"], exclude=data["exclude"]),
    )


def _read_limits(data: Mapping[str, Any]) -> Limits:
    spend = data.get("spend")
    return Limits(
        spend=None if spend is None else Decimal(spend),
        seconds=data.get("seconds"),
        tasks=data.get("tasks"),
        set_in=data.get("set_in", {}),
    )


def _read_dropped(data: Mapping[str, Any]) -> Dropped:
    return Dropped(
        variant=data["film"],
        shot=ShotId(data["shot"]),
        take=data["take"],
        cost=Decimal(data["cost"]),
        gone=data["gone"],
    )


_AGAIN = "make it again: klingflow plan --out plan.json"


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("one object has the same name twice")
    return out


def _read_film(data: Mapping[str, Any], name: str) -> FilmPlan:
    return FilmPlan(
        name=name,
        variant=data.get("variant", ""),
        matrix=data.get("matrix", {}),
        title=data["title"],
        steps=tuple(_read_step(step) for step in data["steps"]),
        warnings=tuple(
            Problem(rule=w["rule"], what=w["what"], mend=w["mend"], severity=Severity.WARNING) for w in data["warnings"]
        ),
        critical=tuple(ShotId(shot) for shot in data["critical"]),
        chain_s=float(data.get("chain_s", data["wall_s"])),
        wall_s=float(data["wall_s"]),
        length_s=None if data.get("length_s") is None else float(data["length_s"]),
        shortcuts=tuple(
            Shortcut(ShotId(s["shot"]), ShotId(s["meets"]), float(s["saves_s"])) for s in data["shortcuts"]
        ),
    )


def _read_step(data: Mapping[str, Any]) -> Step:
    return Step(
        shot=ShotId(data["shot"]),
        take=data["take"],
        is_active_take=data["counted"],
        action=Action(data["action"]),
        reason=data["reason"],
        changes=tuple(PartChange(c["field"], c["old"], c["new"]) for c in data["changes"]),
        key=None if data["key"] is None else Key(data["key"]),
        clip=None if data["clip"] is None else Digest(data["clip"]),
        needs=tuple(ShotId(shot) for shot in data["needs"]),
        waits_for=tuple(Wait(ShotId(wait["shot"]), wait["frame"]) for wait in data.get("waits_for", [])),
        later=_read_later(data),
        after=tuple(ShotId(shot) for shot in data["after"]),
        same_as=None if data["same_as"] is None else ShotId(data["same_as"]),
        same_as_film=data.get("same_as_film"),
        provider=data["provider"],
        model=data["model"],
        resolution=data.get("resolution", ""),
        sound=data.get("sound", False),
        prompt=data.get("prompt", ""),
        negative_prompt=data.get("negative_prompt", ""),
        multi_shot=tuple((part["prompt"], part["seconds"]) for part in data.get("multi_shot", [])),
        seconds=data["seconds"],
        price=None if data["price"] is None else Decimal(data["price"]),
        basis=data.get("basis", ESTIMATE if data["estimate"] else ""),
        depth=data["depth"],
    )


def _read_later(step: Mapping[str, Any]) -> Later | None:
    data = step.get("later")
    if data is None:
        return None
    price = None if data["price"] is None else Decimal(data["price"])
    name = Key(f"{step['shot']} {step['take']}")
    return Later(purchase=name, seconds=data["seconds"], price=price, basis=data["basis"])


def differences(saved: SavedPlan, now: SavedPlan) -> list[str]:
    """Everything that moved since the plan was saved, each in words; empty when a run of it is what was reviewed.

    One kind of difference is none: where the very purchase that was planned was made or ordered meanwhile (a run of
    this plan that was cut off), its clip is collected instead of bought, and that is what the plan asked for.
    """
    out: list[str] = []
    if saved.plan.storyboard != now.plan.storyboard:
        out.append(f"the plan is for {_shown(saved.plan.storyboard)}, not for {_shown(now.plan.storyboard)}")
    out += _moved_inputs(saved, now)
    out += _moved_options(saved, now)
    before, after = _by_take(saved.plan), _by_take(now.plan)
    for place in before | after:
        if place not in after:
            out.append(f"{_named(place)} was planned and is not there any more")
        elif place not in before:
            out.append(f"{_named(place)} was not planned")
        else:
            out += [f"{_named(place)}: {what}" for what in _moved_step(before[place], after[place])]
    return out


Place = tuple[str, ShotId, int]


def _by_take(plan: Plan) -> dict[Place, Step]:
    return {(film.variant, step.shot, step.take): step for film in plan.films for step in film.steps}


def _named(place: Place) -> str:
    variant, shot, take = place
    return f"shot {_shown(shot)}" + (f" take {take}" if take > 1 else "") + (f" [{_shown(variant)}]" if variant else "")


def _moved_inputs(saved: SavedPlan, now: SavedPlan) -> list[str]:
    out = []
    for path in sorted({*saved.inputs, *now.inputs}):
        name = f"{_kind(path, now.plan.storyboard)} {_shown(path)}"
        if path not in now.inputs:
            out.append(f"{name} was there when the plan was made")
        elif path not in saved.inputs:
            out.append(f"{name} was not there when the plan was made")
        elif saved.inputs[path] != now.inputs[path]:
            out.append(f"{name} changed since the plan was made")
    return out


def _kind(path: str, storyboard: str) -> str:
    lower = path.lower()
    if path == storyboard:
        return "the storyboard"
    if lower.endswith(".lock.yaml"):
        return "the lock"
    if lower.endswith("klingflow.yaml"):
        return "the project file"
    return "the still" if lower.endswith((".png", ".jpg", ".jpeg", ".webp")) else "the file"


def _moved_options(saved: SavedPlan, now: SavedPlan) -> list[str]:
    out = []
    for option, old, new in (
        ("--provider", saved.plan.provider, now.plan.provider),
        ("--select", saved.options.select, now.options.select),
        ("--exclude", saved.options.exclude, now.options.exclude),
    ):
        if old != new:
            out.append(f"the plan was made {_with(option, old)}, this run is {_with(option, new)}")
    for name in sorted({*saved.options.vars, *now.options.vars}):
        was, is_now = saved.options.vars.get(name), now.options.vars.get(name)
        if was != is_now:
            option = f"--var {_shown(name)}"
            out.append(f"the plan was made {_with(option, was)}, this run is {_with(option, is_now)}")
    return out


def _with(option: str, value: str | None) -> str:
    return f"without {option}" if value is None else f"with {option} {_shown(value)!r}"


_COLLECTS = frozenset({Action.RESUME, Action.ADOPT, Action.REUSE, Action.RESOLVE})


def _moved_step(old: Step, new: Step) -> list[str]:
    out = []
    if old.model != new.model:
        out.append(f"the model was {_shown(old.model)}, now it is {_shown(new.model)}")
    if old.provider != new.provider:
        out.append(f"the provider was {_shown(old.provider)}, now it is {_shown(new.provider)}")
    same = old.key == new.key or (old.key is None and new.action is not Action.HOLD)
    if not same and old.model == new.model:
        out.append("it would be another purchase than the one that was planned")
    if old.clip != new.clip and old.clip is not None:
        out.append("it would use another clip than the one that was planned")
    if old.action is not new.action and not (same and new.action in _COLLECTS):
        out.append(f"the action was {old.action}, now it is {new.action}")
    elif old.price != new.price and not (new.price == 0 and (new.action is not old.action or new.same_as is not None)):
        out.append(f"the price was {_money(old.price)}, now it is {_money(new.price)}")
    return out


def _money(amount: Decimal | None) -> str:
    return "not known" if amount is None else exact(amount)


def _shown(text: str) -> str:
    shown = visible(redact(text)).replace("\n", " ")
    return shown if len(shown) <= 200 else shown[:199] + "…"
