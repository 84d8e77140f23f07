"""Writes docs/format.md, docs/commands.md and docs/providers.md: run `python docs/_make.py`.

The sentences are in docs/templates/. Tables and numbers come from what they speak of (the schemas, the parser, the
providers' own numbers), so that they cannot differ from it; `[[name]]` in a template is where one is put in.
tests/test_docs.py compares the files with what this module makes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from klingflow.cli import app  # noqa: E402
from klingflow.core.model import Cut, Element, FileStill, Film, MultiShot, Shot, ShotId  # noqa: E402
from klingflow.core.source import Span  # noqa: E402
from klingflow.execution import collecting, waiting  # noqa: E402
from klingflow.execution.outcome import Failure, RunFailure  # noqa: E402
from klingflow.io import webhook  # noqa: E402
from klingflow.output import seams  # noqa: E402
from klingflow.planning import price  # noqa: E402
from klingflow.planning.plan import SIGN  # noqa: E402
from klingflow.providers import BUILT_IN, fal, hiapi, kling, mulerouter, omni, schemas  # noqa: E402
from klingflow.providers.base import Caps, FailureClass, Provider, Settings  # noqa: E402
from klingflow.providers.failure import RULES  # noqa: E402
from klingflow.storyboard import prompt, schema  # noqa: E402

Schema = Mapping[str, Any]

HEAD = "<!-- Made from docs/templates/: change it there, then run `python docs/_make.py`. -->\n\n"

TEMPLATES = jinja2.Environment(  # `{{ }}` and `{% %}` are those of the storyboards that the pages show
    undefined=jinja2.StrictUndefined,
    variable_start_string="[[",
    variable_end_string="]]",
    block_start_string="[%",
    block_end_string="%]",
    comment_start_string="[#",
    comment_end_string="#]",
    keep_trailing_newline=True,
)

# -- pieces of Markdown


def table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines) + "\n"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(value: object) -> str:
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def listed(values: Sequence[str], last: str = "or") -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} {last} {values[-1]}"


def filled(name: str, parts: Mapping[str, str]) -> str:
    """The page `name` with each `[[part]]` of its template put in. Every part must be asked for, every name known."""
    source = (DOCS / "templates" / name).read_text("utf-8")
    asked = jinja2.meta.find_undeclared_variables(TEMPLATES.parse(source))
    if asked != set(parts):
        raise LookupError(f"docs/templates/{name} and its parts differ in {sorted(asked ^ set(parts))}")
    return HEAD + TEMPLATES.from_string(source).render({part: text.strip("\n") for part, text in parts.items()})


# -- a schema in words


def resolved(node: Schema, whole: Schema) -> Schema:
    """The node with its reference followed; what stands beside the reference wins."""
    reference = node.get("$ref")
    if reference is None:
        return node
    target = resolved(whole["$defs"][reference.rpartition("/")[2]], whole)
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
    "array": "list",
    "null": "`null`",
}


def kind(node: Schema, whole: Schema) -> str:
    """What may stand there: "whole number, 3 to 15"."""
    while "$ref" in node:
        reference = node["$ref"].rpartition("/")[2]
        target = whole["$defs"][reference]
        if reference in NAMED and "required" not in target:
            return NAMED[reference]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    for part in (*node.get("allOf", ()), node.get("else", {})):
        if (reference := part.get("$ref", "").rpartition("/")[2]) in PARTS:
            return PARTS[reference]
    if "const" in node:
        return code(node["const"])
    if "enum" in node:
        return listed([code(value) for value in node["enum"]])
    for branch in node.get("anyOf", ()):
        if "enum" in branch:
            return listed([*(code(value) for value in branch["enum"]), "a template"])
    if "anyOf" in node:
        return listed([kind(branch, whole) for branch in node["anyOf"]])
    types = [node["type"]] if isinstance(node.get("type"), str) else list(node.get("type", ()))
    if "array" in types and "items" in node:
        ending = " or `null`" if "null" in types else ""
        return f"list of {between(node, 'Items')}{plural(kind(node['items'], whole))}{ending}"
    text = listed([KINDS[name] for name in types])
    if "minimum" in node or "maximum" in node:
        text += f", {limits(node)}"
    if node.get("maxLength", 10**6) < 1024 and "pattern" not in node:
        text += f", up to {node['maxLength']:,} characters"
    return text


def between(node: Schema, what: str) -> str:
    low, high = node.get(f"min{what}"), node.get(f"max{what}")
    if high is None or high >= 1000:
        return ""
    return f"{low} to {high} " if low else f"up to {high} "


def plural(text: str) -> str:
    """The kind of the entries of a list."""
    return {"mapping": "mappings", "shot id": "ids of shots"}.get(text, f"{text}s")


def limits(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if high is None or high >= 10**6:
        return f"at least {low}"
    return f"{low} to {high:,}" if low is not None else f"at most {high:,}"


NAMED = {
    "frame": "frame",
    "shotId": "shot id",
    "cut": "cut",
    "shot": "shot id",
    "url": "https URL",
    "vars": "mapping of names to values",
}
PARTS = {"inside": "file", "frameMapping": "frame", "endMapping": "frame"}
"""What a field is called by the definition that is part of it."""


def fields(node: Schema, whole: Schema, skip: Sequence[str] = ()) -> str:
    """A table of the fields of a mapping."""
    required = node.get("required", ())
    rows = []
    for name, given in node["properties"].items():
        if name in skip:
            continue
        field = resolved(given, whole)
        says = str(field.get("description", field.get("title", "")))
        short = [one for one in field.get("examples", ()) if len(json.dumps(one)) <= 40]
        if short and not says.endswith(">>>."):
            says += f" Example: {example(short[0])}."
        default = code(field["default"]) if "default" in field else "required" if name in required else ""
        rows.append([f"`{name}`", kind(given, whole), default, says])
    return table(["field", "value", "default", "what it says"], rows)


def example(value: object) -> str:
    """An example as it stands in YAML."""
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return code(value)


def described(node: Schema, whole: Schema, skip: Sequence[str] = ()) -> str:
    """A table of the fields of a JSON object that klingflow writes."""
    rows = [
        [f"`{name}`", kind(given, whole), str(resolved(given, whole).get("description", ""))]
        for name, given in node["properties"].items()
        if name not in skip
    ]
    return table(["field", "value", "what it says"], rows)


def run(words: Sequence[str], files: Mapping[str, str | bytes]) -> str:
    """What the command says in a folder of its own that holds these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder, "project", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        keep = ("PATH", "SYSTEMROOT", "VIRTUAL_ENV")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        ended = subprocess.run(
            [sys.executable, "-m", "klingflow", *words],
            cwd=Path(folder, "project"),
            env={**env, "HOME": folder, "PYTHONPATH": str(DOCS.parent), "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        if ended.stderr:
            raise RuntimeError(ended.stderr)
        return ended.stdout.rstrip() + "\n"


# -- docs/format.md


def format_page() -> str:
    board, lock, project = (schema.load(name) for name in ("storyboard", "lock", "project"))
    defs = board["$defs"]
    element = defs["element"]
    entry = lock["$defs"]["entry"]
    providers = project["properties"]["providers"]["properties"]
    return filled(
        "format.md",
        {
            "top": fields(board, board),
            "defaults": fields(
                {"properties": {"max_chain": board["properties"]["defaults"]["properties"]["max_chain"]}}, board
            ),
            "shot": fields(defs["shot"], board),
            "frame": fields(defs["frameMapping"], board),
            "proposal": fields(defs["endMapping"], board, skip=list(defs["frameMapping"]["properties"])),
            "multi_shot": fields(defs["multi_shot"], board),
            "element": fields(element, board),
            "film": fields(board["properties"]["film"], board),
            "gate": fields(board["properties"]["film"]["properties"]["gate"], board),
            "cut": fields(defs["cutMapping"], board),
            "statements": ", ".join(STATEMENTS[name] for name in STATEMENTS if name in prompt._STATEMENTS),
            "filters": ", ".join(code(name) for name in prompt._FILTERS),
            "tests": ", ".join(code(name) for name in prompt._TESTS),
            "max_output": f"{prompt.MAX_OUTPUT:,}",
            "max_loops": f"{prompt.MAX_LOOPS:,}",
            "lock": fields(entry, lock),
            "pick": fields(lock["$defs"]["pick"], lock),
            "project": fields(project, project, skip=("providers", "images", "limits", "publish", "prices")),
            "project_publish": fields(project["properties"]["publish"], project),
            "project_providers": fields(
                {
                    "properties": {
                        f"{name}.{field}": given
                        for name, one in providers.items()
                        for field, given in one["properties"].items()
                    }
                },
                project,
            ),
            "project_rest": fields(
                {
                    "properties": {
                        f"{name}.{field}": given
                        for name in ("images", "limits")
                        for field, given in project["properties"][name]["properties"].items()
                    }
                },
                project,
            ),
            "hiapi_url": hiapi.caps.base_url,
            "mulerouter_url": mulerouter.caps.base_url,
            "fal_url": fal.caps.base_url,
            "kling_url": kling.caps.base_url,
        },
    )


STATEMENTS = {
    "Output": "`{{ value }}`",
    "If": "`if`",
    "For": "`for` (with `loop.index`, `loop.first`, …)",
    "Assign": "`set`",
    "With": "`with`",
    "Macro": "`macro`",
    "Include": "`include`",
    "Import": "`import`",
    "FromImport": "`from … import`",
}

# -- docs/commands.md

WRONG = """\
klingflow: 1
vars:
  boat: a red fishing boat
shots:
  - id: dawn
    duraton: 5
    prompt: "{{ boot }} drifts at anchor."
  - id: harbour
    continues: dwan
    prompt: The boat glides in.
"""

PLANNED = """\
klingflow: 1
title: Harbour Dawn
defaults: {provider: mulerouter, duration: 5}
shots:
  - id: dawn
    prompt: Gentle waves roll in.
    aspect_ratio: "16:9"
  - id: harbour
    continues: dawn
    prompt: The boat glides in.
  - id: gulls
    prompt: Gulls turn above the quay.
    aspect_ratio: "16:9"
    sound: true
"""


def commands_page() -> str:
    plan, events, answers = schema.load("plan"), schema.load("events"), schema.load("answers")
    return filled(
        "commands.md",
        {
            "exits": table(["code", "meaning"], [(str(number), says) for number, says in exits()]),
            **{f"{name.replace('-', '_')}_about": _about(part) for name, part in commands().items()},
            **{f"{name.replace('-', '_')}_usage": _usage(name, part) for name, part in commands().items()},
            "seam_kinds": table(
                ["kind", "what is measured", "above it a finding"],
                [(code(name), kind.text, seams.words(name, kind.limit)) for name, kind in seams.KINDS.items()],
            ),
            "wrong": run(("check", "film.yaml"), {"film.yaml": WRONG}),
            "planned": run(("plan", "film.yaml"), {"film.yaml": PLANNED}),
            "signs": ", ".join(f"`{sign}` {action.value}" for action, sign in SIGN.items()),
            "plan": described(plan, plan),
            "step": described(plan["$defs"]["step"], plan),
            "totals": described(plan["$defs"]["totals"], plan),
            "answers": "\n".join(_answer(name, node, answers) for name, node in answers["$defs"].items()),
            "events": table(["event", "when", "its fields"], [_event(one["then"]) for one in events["allOf"]]),
        },
    )


def _answer(name: str, node: Schema, whole: Schema) -> str:
    """The document of one command, and what the lists in it hold."""
    parts = [f"`{node['description']}`:\n\n{described(node, whole)}"]
    todo = [(field, one) for field, one in node["properties"].items()]
    for field, one in todo:
        item = one.get("items", {})
        if "properties" in item:
            parts.append(f"An entry of `{field}` ({name}):\n\n{described(item, whole)}")
            todo += item["properties"].items()
    return "\n".join(parts)


def exits() -> list[tuple[int, str]]:
    text = " ".join(app.EXITS.removeprefix("exit codes:").split())
    return [(int(number), says) for number, _, says in (part.strip().partition(" ") for part in text.split(";"))]


def commands() -> Mapping[str, argparse.ArgumentParser]:
    return app.parsers(app.parser())


def _about(part: argparse.ArgumentParser) -> str:
    says = part.description or ""
    return f"{says[0].upper()}{says[1:]}."


def _usage(name: str, part: argparse.ArgumentParser) -> str:
    actions = [action for action in part._actions if not isinstance(action, argparse._HelpAction)]
    needed = {action for group in part._mutually_exclusive_groups if group.required for action in group._group_actions}
    usage = " ".join(["klingflow", name, *(_asked(action) for action in actions if not action.option_strings)])
    options = " [OPTIONS]" if any(action.option_strings for action in actions) else ""
    rows = [(_written(action), _helped(action, action in needed)) for action in actions]
    return f"```\n{usage}{options}\n```\n\n" + table(["argument", "what it does"], rows)


def _asked(action: argparse.Action) -> str:
    name = _metavar(action)
    return {"?": f"[{name}]", "+": f"{name}…", "*": f"[{name}…]"}.get(str(action.nargs), name)


def _metavar(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _written(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_asked(action)}`"
    value = "" if action.nargs == 0 else f" {_metavar(action)}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _helped(action: argparse.Action, one_of: bool) -> str:
    notes = [action.help] if action.help else []
    if isinstance(action, argparse._AppendAction):
        notes.append("may stand several times")
    if one_of:
        notes.append("one of these is required")
    return "; ".join(notes) or "one of " + listed([code(one) for one in action.choices or ()])


def _event(one: Schema) -> Sequence[str]:
    own = [name for name in one["properties"] if name not in ("version", "time", "event")]
    return f"`{one['title']}`", one["description"], ", ".join(code(name) for name in own)


# -- docs/providers.md


def providers_page() -> str:
    caps = {name: provider.caps for name, provider in BUILT_IN.items()}
    return filled(
        "providers.md",
        {
            "caps": table(["", *caps], [[says, *map(tell, BUILT_IN.values())] for says, tell in CAPS]),
            "environment": table(
                ["", "key", "address", "callback secret"],
                [
                    (
                        name,
                        " and ".join(map(code, c.variables)),
                        f"`{c.base_variable}`, else `{c.base_url}`",
                        f"none: keys of `{c.webhook_keys}`" if c.webhook_keys else code(c.webhook_variable),
                    )
                    for name, c in caps.items()
                    if c.paid
                ],
            ),
            "replay": f"{(hiapi.caps.replay_s or 0) / 3600:g}",
            "patience": f"{collecting.TASK_TIMEOUT_S / 60:g}",
            "window": str(hiapi.WINDOW_S),
            "body": str(webhook.BODY_BYTES // 1024),
            "limits": table(
                ["", *(name for name, c in caps.items() if c.paid)],
                [[says, *(tell(name, c) for name, c in caps.items() if c.paid)] for says, tell in PACE],
            ),
            "prices": table(
                ["resolution", "silent", "with sound", "5 s, silent"],
                [
                    (name, f"{silent}", f"{sound}", price.money(silent * Decimal(5)))
                    for name, (silent, sound) in omni.LIST_PRICE.items()
                ],
            ),
            "failures": table(
                ["class", "what it means", "sent again", "new attempts", "a later run", "exit code", "what next"],
                [_failure(kind) for kind in FailureClass],
            ),
            "own_failures": table(
                ["class", "what it means", "exit code"],
                [(kind.value, OWN_MEANS[kind], str(Failure(kind=kind, message="").exit_code)) for kind in RunFailure],
            ),
        },
    )


def _size(count: int) -> str:
    return f"{count // 2**20} MiB" if count >= 2**20 and count % 2**20 == 0 else f"{count // 10**6} MB"


def _frames(provider: Provider) -> str:
    ways = {provider.images(Settings(), published) for published in (False, True)}
    inside = "inside the request" if ways & {"data-uri", "base64"} else ""
    by_url = "by URL where `publish` is set" if "url" in ways else ""
    uploaded = "uploaded first" if "upload" in ways else ""
    return ", or ".join(filter(None, (inside, by_url, uploaded))) or "files"


def _offers(provider: Provider, **fields: Any) -> bool:
    """Whether the provider's own check takes a shot with these fields."""
    span = Span("film.yaml", 1, 1, 1, "")
    shot = Shot(id=ShotId("a"), index=0, **{"prompt": "a", **fields})
    film = Film(name="a", shots=(shot,), cut=(Cut(shot.id),), title="a", matrix={}, where=lambda shot, field: span)
    return not any(problem.rule == "not-offered" for problem in provider.check(film, shot))


def _beside(provider: Provider) -> str:
    if provider.caps.local:
        return "written into the picture"
    still = FileStill("a.png")
    cut = MultiShot("intelligence", ())
    fields = {
        "negative prompt": {"negative_prompt": "a"},
        "multi-shot": {"multi_shot": cut},
        "images": {"images": (still,)},
        "elements": {"elements": (Element(frontal_image=still, reference_images=(still,)),)},
    }
    offered = [name for name, one in fields.items() if _offers(provider, **one)]
    return "yes" if len(offered) == len(fields) else ", ".join(offered) or "no"


def _ratio(provider: Provider) -> str:
    framed = _offers(provider, aspect_ratio="16:9", first_frame=FileStill("a.png"))
    return "yes" if framed else "without a first frame"


CAPS: Sequence[tuple[str, Callable[[Provider], str]]] = (
    ("model", lambda p: listed([code(name) for name in p.caps.models], "and")),
    ("seconds of a clip", lambda p: f"{p.caps.seconds[0]} to {p.caps.seconds[1]}"),
    ("resolutions", lambda p: ", ".join(p.caps.resolutions)),
    ("characters of a prompt", lambda p: f"{p.caps.prompt_chars:,}"),
    ("how frames reach it", _frames),
    ("image formats", lambda p: ", ".join(p.caps.image_formats)),
    (
        "an image, at most",
        lambda p: (f"{_size(p.caps.inline_bytes)}; by URL " if p.caps.inline_bytes else "") + _size(p.caps.image_bytes),
    ),
    ("a side, at least", lambda p: f"{p.caps.image_side} pixels"),
    ("longer side over shorter, at most", lambda p: f"{p.caps.image_ratio:g}"),
    ("negative prompt, multi-shot, images, elements", _beside),
    ("aspect ratio", _ratio),
    ("a lost answer", lambda p: "asked again, free" if p.caps.replay_s else "in doubt"),
    ("costs money", lambda p: "yes" if p.caps.paid else "no"),
)

PACE: Sequence[tuple[str, Callable[[str, Caps], str]]] = (
    ("tasks at once, to begin with", lambda name, c: str(c.concurrency)),
    ("requests a minute", lambda name, c: str(c.requests_per_minute or "not documented")),
    ("requests at once", lambda name, c: str(c.requests_at_once or "not documented")),
    ("tasks told of by one list request", lambda name, c: str(c.list_size or "there is no list")),
    ("longest pause between two polls", lambda name, c: f"{waiting.LONGEST_PAUSE_S:g} s"),
)


def _failure(kind: FailureClass) -> Sequence[str]:
    rule = RULES[kind]
    names = {"storyboard": "film.yaml", "shot": "SHOT", "provider": "PROVIDER"}
    return (
        kind.value,
        MEANS[kind],
        "yes" if rule.free_retries else "no",
        str(rule.new_attempts),
        "orders it again" if rule.again_by_run else "refuses it",
        str(rule.exit_code),
        rule.what_next.format(**names) + (" (stops all orders to this provider)" if rule.stops_provider else ""),
    )


MEANS: Mapping[FailureClass, str] = {
    FailureClass.THROTTLED: "too fast, or too many at once",
    FailureClass.QUOTA: "no balance, or a spend limit of the account",
    FailureClass.UNAUTHORISED: "the key is missing, wrong, or lacks a permission",
    FailureClass.MODERATED: "the provider will not show this",
    FailureClass.INVALID: "the request is wrong, or the task failed for no documented passing reason",
    FailureClass.PROVIDER_FAULT: "their side broke, by a documented code",
}

OWN_MEANS: Mapping[RunFailure, str] = {
    RunFailure.NOT_SENT: "the request certainly never left: nothing was bought",
    RunFailure.LIMIT: "a limit of the run or of the project refused to spend",
    RunFailure.NO_KEY: "the provider's key is not set",
    RunFailure.CLIP_ABSENT: "the plan names a clip that the store does not hold",
    RunFailure.FROZEN: "drawn again it came out otherwise than the lock says, and `--frozen` takes nothing else",
    RunFailure.HELD_MISSING: "a held shot has no clip in the lock",
    RunFailure.INPUT: "an image or a frame that goes into the request cannot be had",
    RunFailure.STALE_PLAN: "what goes into it changed after the plan, or the task to collect has ended",
    RunFailure.STORE: "the store or the ledger cannot be read or written",
    RunFailure.DAMAGED_LEDGER: "the records of the order cannot be true",
    RunFailure.OTHER_ACCOUNT: "the task belongs to another account or base URL",
    RunFailure.TASK_UNKNOWN: "the provider took the order, and does not know its task any more",
    RunFailure.DOWNLOAD: "the finished clip did not arrive whole; a later run fetches it",
    RunFailure.IN_DOUBT: "it is not known whether the order was taken; `resolve` settles it",
    RunFailure.NOT_ACCEPTED: "the clip that came is not what was ordered; `resolve` takes it or turns it down",
    RunFailure.STUCK: "still being made when the run stopped waiting; a later run collects it",
}


# -- docs/writing-a-provider.md


def provider_page() -> str:
    package = DOCS / "example-provider"
    files = {"pyproject": "pyproject.toml", "module": "klingflow_toy.py", "suite": "test_klingflow_toy.py"}
    return filled("writing-a-provider.md", {name: (package / file).read_text("utf-8") for name, file in files.items()})


# -- schemas/include.schema.json


def include_schema() -> str:
    """The schema of a file that a storyboard includes: the part of the storyboard's own that may be in one."""
    board = schemas.storyboard(BUILT_IN)
    alone = "only the storyboard says it: an included file has cast and shots"
    made = {
        "$schema": board["$schema"],
        "$id": "urn:klingflow:schema:include:1",
        "title": "Included file",
        "description": "Cast and shots that several storyboards share, by `include: [FILE]`; paths are relative to it.",
        "type": "object",
        "additionalProperties": False,
        "mends": {
            **dict.fromkeys(board["properties"], alone),
            "klingflow": "a storyboard cannot be included: move what is shared into a file without this line",
            "include": "an included file includes nothing: name both files in the storyboard",
        },
        "properties": {name: board["properties"][name] for name in ("notes", "cast", "shots")},
        "$defs": {name: given for name, given in board["$defs"].items() if name != "shows"},
    }
    return schema_text(made)


def schema_text(made: Schema) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "format.md": format_page,
    "commands.md": commands_page,
    "providers.md": providers_page,
    "writing-a-provider.md": provider_page,
    "../schemas/storyboard.schema.json": lambda: schema_text(schemas.storyboard(BUILT_IN)),
    "../schemas/project.schema.json": lambda: schema_text(schemas.project(BUILT_IN)),
    "../schemas/include.schema.json": include_schema,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
