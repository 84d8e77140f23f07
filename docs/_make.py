"""Writes docs/format.md, docs/commands.md and docs/providers.md: run `python docs/_make.py`.

Tables come from what they speak of (the schemas, the parser, the providers' own numbers), so that they cannot differ
from it; the sentences between them stand here. tests/test_docs.py compares the files with what this module makes.
"""

# ruff: noqa: E501 (the texts are Markdown, and a row of a table cannot be broken)

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from klingflow.app.services import CONCURRENT, SECRETS  # noqa: E402
from klingflow.cli import app  # noqa: E402
from klingflow.execution import buyer, waiting  # noqa: E402
from klingflow.execution.outcome import Failure, RunFailure  # noqa: E402
from klingflow.io import webhook  # noqa: E402
from klingflow.planning import price  # noqa: E402
from klingflow.planning.plan import SIGN  # noqa: E402
from klingflow.providers import PROVIDERS, hiapi, mulerouter  # noqa: E402
from klingflow.providers.base import Caps, FailureClass  # noqa: E402
from klingflow.providers.failure import RULES  # noqa: E402
from klingflow.storyboard import prompt, schema  # noqa: E402

Schema = Mapping[str, Any]

HEAD = "<!-- Made by docs/_make.py: change it there, then run `python docs/_make.py`. -->\n\n"

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


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with each line `[[name]]` replaced by its part. Every part must be asked for, every name known."""
    asked = set(re.findall(r"\[\[([a-z0-9_.]+)\]\]", text))
    if asked != set(parts):
        raise LookupError(f"the text and its parts differ in {sorted(asked ^ set(parts))}")
    return HEAD + re.sub(r"\[\[([a-z0-9_.]+)\]\]", lambda found: parts[found[1]].strip("\n"), text)


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
    if types == ["array"] and "items" in node:
        return f"list of {between(node, 'Items')}{plural(kind(node['items'], whole))}"
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
    "shot": "shot id",
    "path": "file",
    "url": "https URL",
    "vars": "mapping of names to values",
}


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

IN_KEY = (
    ("prompt", "as rendered: a variable or an included file counts by the text that it leads to"),
    ("prompt_file", "the text of the file, as rendered"),
    ("negative_prompt", "as rendered"),
    ("first_frame", "a file by the SHA-256 of its bytes; a URL by its text, or by its pinned `sha256`"),
    ("last_frame", "likewise"),
    ("continues", "the clip of that shot, by its digest, and which frame of it"),
    ("meets", "the still that it stands for"),
    ("images", "each by its bytes"),
    ("elements", "each image by its bytes"),
    ("multi_shot", "as rendered"),
    ("duration", ""),
    ("resolution", ""),
    ("sound", ""),
    ("aspect_ratio", ""),
    ("model", "by its neutral name, the same for every seller"),
    ("take", "when it is not 1"),
    ("clip", "the bytes of the file: no purchase at all"),
)
NOT_IN_KEY = (
    ("id", "a renamed shot keeps its clip"),
    ("title", ""),
    ("notes", ""),
    ("tags", ""),
    (
        "provider",
        "HiAPI and MuleRouter sell the same model; the animatic is a model of its own, never a stand-in for it",
    ),
    ("takes", "it says how many are made; each take has its own key"),
    ("hold", "it says to keep the clip whatever the key is"),
    ("vars", "only through the texts that use them"),
)

FORMAT = """\
# The storyboard format, version 1

A storyboard is a YAML file, `NAME.yaml`. It declares shots and how they join. `klingflow check NAME.yaml` tells everything
that is wrong in it at once; an editor with a YAML language server explains every field while you type, when the first line
says where the schema lies (`klingflow schema storyboard > storyboard.schema.json` writes it).

```yaml
# yaml-language-server: $schema=schemas/storyboard.schema.json
klingflow: 1
title: Harbour Dawn
vars:
  boat: a weathered red fishing boat
  look: 35 mm film, muted teal and amber
defaults:
  provider: hiapi
  resolution: 1080p
  duration: 5
shots:
  - id: dawn
    first_frame: frames/dawn.png
    prompt: Gentle waves roll in, {{ boat }} drifts, slow push-in. {{ look }}
  - id: harbour
    continues: dawn
    last_frame: frames/harbour.png
    prompt: The boat glides into the harbour as lamps go out. {{ look }}
  - id: market
    meets: harbour
    prompt: Lanterns are lit over the stalls. {{ look }}
film:
  shots: [dawn, harbour, market]
  audio: score.wav
```

Values are those of YAML 1.2: `16:9`, `on`, `no` and `2024-01-02` are texts. A key that stands twice, a tag (`!x`), an alias
that explodes and a field that does not exist are errors, each with its line, a caret and what to write instead. A text that
begins with `{` must stand in quotes, because YAML would read a mapping: `prompt: "{{ boat }} drifts"`.

## At the top

[[top]]

`defaults` takes every shot field but `id`, `first_frame`, `last_frame`, `continues`, `meets`, `take` and `clip`, and one of
its own:

[[defaults]]

## A shot

[[shot]]

A shot needs something to show: a prompt, a frame, or a clip of its own. It begins with one frame, so `first_frame`,
`continues` and `meets` exclude each other; so do `prompt` and `prompt_file`.

## Frames

`first_frame`, `last_frame`, `images` and the images of `elements` take a frame, which is one of:

```yaml fragment
shots:
  - id: a
    first_frame: frames/dawn.png                                # a file, relative to the storyboard
  - id: b
    first_frame: https://example.com/dawn.png                   # an https URL, known by its text
  - id: c
    first_frame:
      url: https://example.com/dawn.png                         # a URL pinned by what it must give
      sha256: 3b1f2a0c5d8e47f6a9b0c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f70
  - id: d
    first_frame: {shot: c}                                      # the last frame of c's clip
  - id: e
    first_frame: {shot: c, frame: "-3"}                         # the third frame from its end
  - id: f
    first_frame: {shot: c, frame: 2.5s}                         # the frame shown at 2.5 seconds
  - id: g
    last_frame: {shot: a, frame: first}                         # the first frame of a's clip
    first_frame: {still: h}                                     # the still that h declares as last_frame
  - id: h
    first_frame: frames/dawn.png
    last_frame: frames/harbour.png
```

[[frame]]

A file lies inside the project: `..` and links that lead out of it are refused. PNG, JPEG and WEBP are recognised by
content, not by name. A shot without a first frame is made from its text alone.

A URL without `sha256` is the warning `unpinned-url`, in `check`, the plan and the pull request's comment: who owns the URL
can put another image there, and the key of the shot stays the same. A URL whose host is private, loopback, link-local or
a cloud's metadata service, as a name or as an address in any notation (`localhost`, `10.0.0.7`, `169.254.169.254`,
`2130706433`, `[::ffff:7f00:1]`), is the error `private-host`. Only the host of a base URL or publish URL that the
environment sets is allowed.

### continues and meets

`continues: ID` is short for `first_frame: {shot: ID}`: the shot begins with the last frame of that clip, exactly as it is
displayed, and waits for it. When that clip is made anew, this shot is made anew too: its first frame is another.

`meets: ID` is short for `first_frame: {still: ID}`: the shot begins with the image that the other declares as its
`last_frame`, needs no clip, and does not wait. A change of the other shot's prompt buys nothing here. The model comes close
to a declared last frame, but does not always hit it to the pixel: `meets` is fast and cheap, `continues` is exact.

Several shots may continue one shot. A run of `continues` longer than `max_chain` is a warning: quality drifts along it, and
the shots are made one after the other. `klingflow plan` says how much `meets` would shorten the wait.

A loop is closed from its end. The references of shots to clips must not run in a circle; this one does not, because it
takes the beginning's first frame:

```yaml
klingflow: 1
shots:
  - id: opening
    first_frame: frames/dawn.png
    prompt: Still water before sunrise.
  - id: home
    continues: opening
    last_frame: {shot: opening, frame: first}
    prompt: Night thins to the first light.
```

## Templates

Every text may hold values: `{{ name }}` puts one in, `{% if %}` and `{% for %}` choose and repeat. The syntax is jinja2's,
the language is smaller: it cannot read a file outside the project, call Python, or run for ever.

| in sight | what it is |
| --- | --- |
| `vars`, and each variable by its name | the storyboard's `vars`, over them those of `defaults` and of the shot; `--var name=value` overrides one at the top |
| each axis of the matrix by its name, and `matrix` | the values of this film |
| `shot.id`, `shot.index`, `shot.duration`, `shot.resolution`, `shot.tags` | this shot; `index` counts from 1 |

| allowed | which |
| --- | --- |
| statements | [[statements]] |
| filters | [[filters]] |
| tests | [[tests]] |
| operators | comparisons, `in`, `and`, `or`, `not`, `a if b else c`, `~` (joins texts), and names, fields, entries, lists, mappings |

No arithmetic, no `range`, no calls but of macros, no recursion. A name that nobody declared is an error with the nearest one
that exists. One value is at most [[max_output]] characters long, with at most [[max_loops]] rounds of loops.

```yaml
klingflow: 1
vars:
  look: 35 mm film
  crowd: [a fishmonger, two children, a dog]
shots:
  - id: market
    first_frame: frames/market.png
    prompt: >-
      Morning market with {{ crowd | join(", ") }}.
      {% if shot.duration > 8 %}Slow pan along the stalls.{% else %}Static camera.{% endif %}
      {% include "prompts/style.txt" %} {{ look }}
```

## Matrix: one storyboard, several films

Each combination of the matrix is a film of its own, in `out/NAME/COMBINATION/`. Shots whose texts and images do not differ
between two films are one purchase. `exclude` leaves combinations out; one that names only some axes leaves out all that
agree with it.

```yaml
klingflow: 1
title: A light that waits ({{ lang }}, {{ aspect }})
matrix:
  aspect: ["16:9", "9:16"]
  lang: [en, de]
  exclude:
    - {aspect: "9:16", lang: de}
vars:
  claim: {en: A light that waits for you., de: "Ein Licht, das auf dich wartet."}
shots:
  - id: claim
    prompt: "A card with the words: {{ claim[lang] }}"
    aspect_ratio: "{{ aspect }}"
```

## Takes

`take: 2` is a re-roll: another clip for the same text, declared, reviewed and bought once. The first stays in the lock and in
the store, so `take: 1` brings it back and costs nothing. `takes: 3` makes takes 1 to 3 so that a person can choose;
`take` says which of them the film uses and other shots continue. `klingflow takes NAME.yaml` lists them.

```yaml fragment
- id: market
  first_frame: frames/market.png
  prompt: Lanterns are lit.
  takes: 3
  take: 2
```

## hold and clip

`hold: true` keeps the clip that the lock names, whatever changed in the shot or before it. It costs nothing; `klingflow plan`
says what is held. Set it when the clip is there: while a shot is held, no clip is bought for it. Where the lock names none,
the run stops that shot with "held, and its lock entry is not there" and goes on with the others (a free animatic is drawn).
A shot or storyboard that was renamed keeps its held clip, where the lock leaves no doubt about which one it is.

`clip: footage/insert.mp4` brings a clip of one's own: any size, any rate, with or without sound. It costs nothing, other
shots may continue it, and it takes no field that says how to make a clip.

```yaml fragment
- id: insert
  clip: footage/insert.mp4
- id: departure
  continues: insert
  prompt: Past the signal the line opens out.
- id: seat
  first_frame: frames/seat.png
  prompt: A lamp, a letter, a cup.
  hold: true
```

## Multi-shot, reference images and elements

MuleRouter sells these; the animatic writes them into the picture; HiAPI has none, and `check` says so at the field.

[[multi_shot]]

An element is a character or a thing that must look the same in every shot; in the prompt it is `<<<element_1>>>`.

[[element]]

```yaml
klingflow: 1
defaults: {provider: mulerouter}
shots:
  - id: keeper
    prompt: <<<element_1>>> climbs the stairs of the lighthouse.
    aspect_ratio: "16:9"
    negative_prompt: text, watermark
    images: [frames/style.png]
    elements:
      - frontal_image: frames/keeper.png
        reference_images: [frames/keeper-side.png]
  - id: storm
    aspect_ratio: "16:9"
    duration: 6
    multi_shot:
      by: customize
      shots:
        - {prompt: "Wide: the sea rises", duration: 4}
        - {prompt: "Close: a hand on the rail", duration: 2}
```

## film

[[film]]

The film is one encode of its shots in order. Where a shot is shown right after the one it continues, the frame that both
have is shown once. Sizes and rates of clips of one's own are fitted.

## When one pays: what is in a key

A clip is known by its key, the SHA-256 of what was ordered. The lock, else the store, says which clip answers a key; only a
key that neither answers is made. So these fields buy when they change:

[[in_key]]

and these never do:

[[not_in_key]]

Comments, the order of shots, `film:`, limits, prices, output and the version of klingflow are not in a key either. A frame of
a clip enters by the clip's digest and the frame's name, not by the picture that was cut from it: a new decoder never buys
again. Below a shot that has to be made, keys are known after the run, and the plan says so; when the new clip is byte for
byte the old one, what continues it is not made again.

## The lock

`NAME.lock.yaml` stands beside the storyboard; `klingflow run` writes it when something changed, and you commit it. It names,
for each shot and take, the clip that answers. With it a fresh clone plans without any clip on its disk. It holds no URL and no
secret. With `--provider animatic` a run is a rehearsal: the lock is neither read nor written, and the output goes to
`out/NAME/animatic/`.

[[lock]]

## klingflow.yaml

The project file stands at the project's root: the nearest folder above the storyboard that has one, else the git root, else
the storyboard's own folder. Every field is optional. It holds no key and no API address: a pull request could move them.

```yaml
store: s3://studio/klingflow
publish:
  to: s3://studio-frames/klingflow
  public_url: https://frames.example.com
  expires: 24h
providers:
  hiapi: {concurrency: 4}
  mulerouter: {base64: raw}
images: {shrink: never}
limits: {spend: 20.00, seconds: 300, tasks: 60}
prices:
  hiapi: {1080p: {silent: 0.112, sound: 0.14}}
```

[[project]]

`publish`:

[[project.publish]]

`providers`:

[[project.providers]]

`images` and `limits`:

[[project.rest]]

`prices` are USD a second of clip by provider and resolution, `silent` and `sound` each; they override the shipped estimates
([providers.md](providers.md#prices)).

## Environment variables

[[environment]]

## Files

| path | what it is |
| --- | --- |
| `NAME.yaml`, `NAME.lock.yaml`, `klingflow.yaml`, stills, prompts | yours: commit them |
| `.klingflow/store` | clips and frames by content, and the ledger of every order: precious, unless `store` names a shared place |
| `out/NAME/film.mp4` | the film |
| `out/NAME/shots/ID.mp4`, `ID.take2.mp4` | the clip of each shot, and of takes that do not count |
| `out/NAME/frames/ID.last.png` | the last displayed frame of each clip |

What lies in `out/` is rebuilt from the store at will: `klingflow film NAME.yaml`.
"""

ENVIRONMENT = (
    ("HIAPI_API_KEY", "HiAPI's key. It is sent to HiAPI's API host alone."),
    ("MULEROUTER_API_KEY", "MuleRouter's key. It is sent to MuleRouter's API host alone."),
    (
        "HIAPI_WEBHOOK_SECRET",
        "The signing key of HiAPI's console; `--listen` and `klingflow listen` need one of the two.",
    ),
    ("MULEROUTER_WEBHOOK_SECRET", "The secret `whsec_…` of MuleRouter's console."),
    ("HIAPI_BASE_URL", f"Another address of HiAPI's API, such as a stand-in. Default: {code(hiapi.caps.base_url)}."),
    (
        "MULEROUTER_BASE_URL",
        f"Another address of MuleRouter's API. Default: {code(mulerouter.caps.base_url)}; the twin site "
        "`https://api.mulerun.com` has accounts of its own.",
    ),
    ("KLINGFLOW_STORE", "Overrides `store`; may name any folder."),
    ("KLINGFLOW_PUBLISH_TO", "Overrides `publish.to` and, because the two belong together, `publish.public_url`."),
    ("KLINGFLOW_PUBLISH_URL", "Overrides `publish.public_url`; may be plain http, for a server on this machine."),
    ("HTTPS_PROXY", "A proxy for requests, as other tools read it; `ALL_PROXY` and `NO_PROXY` too."),
    ("NO_COLOR", "No colours. Without a terminal there are none anyway."),
    ("CI", "Plain lines of progress instead of live bars, also on a terminal."),
)


def format_page() -> str:
    board, lock, project = (schema.load(name) for name in ("storyboard", "lock", "project"))
    defs = board["$defs"]
    element = defs["elements"]["items"]
    entry = lock["$defs"]["entry"]
    providers = project["properties"]["providers"]["properties"]
    return filled(
        FORMAT,
        {
            "top": fields(board, board),
            "defaults": fields(
                {"properties": {"max_chain": board["properties"]["defaults"]["properties"]["max_chain"]}}, board
            ),
            "shot": fields(defs["shot"], board),
            "frame": fields(defs["frameMapping"], board),
            "multi_shot": fields(defs["multi_shot"], board),
            "element": fields(element, board),
            "film": fields(board["properties"]["film"], board),
            "statements": ", ".join(STATEMENTS[name] for name in STATEMENTS if name in prompt._STATEMENTS),
            "filters": ", ".join(code(name) for name in prompt._FILTERS),
            "tests": ", ".join(code(name) for name in prompt._TESTS),
            "max_output": f"{prompt.MAX_OUTPUT:,}",
            "max_loops": f"{prompt.MAX_LOOPS:,}",
            "in_key": table(["field", "how it counts"], [(f"`{name}`", how) for name, how in IN_KEY]),
            "not_in_key": table(["field", "why not"], [(f"`{name}`", why) for name, why in NOT_IN_KEY]),
            "lock": fields(entry, lock),
            "project": fields(project, project, skip=("providers", "images", "limits", "publish", "prices")),
            "project.publish": fields(project["properties"]["publish"], project),
            "project.providers": fields(
                {
                    "properties": {
                        f"{name}.{field}": given
                        for name, one in providers.items()
                        for field, given in one["properties"].items()
                    }
                },
                project,
            ),
            "project.rest": fields(
                {
                    "properties": {
                        f"{name}.{field}": given
                        for name in ("images", "limits")
                        for field, given in project["properties"][name]["properties"].items()
                    }
                },
                project,
            ),
            "environment": table(["variable", "what it does"], [(f"`{name}`", says) for name, says in ENVIRONMENT]),
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

COMMANDS = """\
# Commands

`klingflow COMMAND --help` says the same on a terminal. PATH is a storyboard. Messages and progress go to stderr, results to
stdout. Whatever goes wrong is told with what happened, where, what it cost and what to do next; no message holds a key or the
query of a URL.

## Exit codes

[[exits]]

Several things in one run end with the one that a person must settle first: an interrupt, then doubt (4), then failed shots
(1 or 2), then a limit (5), then tasks that are still being made (7).

[[commands]]

## Selecting shots

`--select` and `--exclude` know dbt's operators over the graph of a film. Words are a union, a comma an intersection.

| selection | which shots |
| --- | --- |
| `dawn`, `mar*`, `*` | a shot, shots by pattern, every shot |
| `dawn+`, `dawn+1` | and what continues it: all of it, or so many steps |
| `+market`, `2+market` | and what it waits for: all of it, or so many steps |
| `tag:night` | shots with a tag |
| `state:changed` | against a base (`plan --against`): `new`, `changed`, `modified` (both), `renamed`, `removed`, `unchanged` |
| `dawn+,tag:night` | both at once |

## The plan as JSON

`plan --format json` prints it, `plan --out FILE` saves it; `klingflow schema plan` is its schema. It is data alone: nothing in
it is executed or fetched, and it holds no secret. `run --plan FILE` runs exactly that, or refuses (exit 2) when storyboard,
stills, lock, model or price moved.

[[plan]]

A step is one take of one shot:

[[step]]

`totals`:

[[totals]]

## The event stream

`run --json` prints one JSON object a line on stdout; `klingflow schema events` is its schema. Every event has `version` (1),
`time` (UTC, ISO 8601) and `event`. Pass over events and fields that you do not know.

[[events]]
"""

ENDS: Mapping[str, Sequence[int]] = {
    "init": (0, 2),
    "check": (0, 2),
    "plan": (0, 1, 2, 6),
    "run": (0, 1, 2, 4, 5, 6, 7, 130),
    "status": (0, 1, 2),
    "resolve": (0, 1, 2),
    "takes": (0, 1, 2),
    "film": (0, 1, 2, 6),
    "graph": (0, 2),
    "listen": (0, 1, 2),
    "doctor": (0, 2, 5),
    "store": (0, 1, 2),
    "schema": (0, 2),
}
"""The exit codes of each command, besides 3, which is a bug in any of them."""

SAYS: Mapping[str, str] = {
    "init": "A storyboard of five shots, its stills, `klingflow.yaml`, `.gitignore`, the schema for the editor "
    "and a recipe for CI. Nothing that exists is overwritten.",
    "check": "Shape and meaning, every fault of every file: unknown fields with the nearest that exists, shots that are not "
    "there, circles, templates, images against the provider's limits, what the provider cannot do. `github` "
    "annotates the lines of a pull request, `sarif` is for code scanning.",
    "plan": "Makes nothing, and asks the store and the ledger, no provider. With `--against` it says what a change does: shots that are new, changed, "
    "renamed or gone, prompts word by word, and what it costs. `markdown` is a comment for a pull request, always "
    "under 65,536 characters.",
    "run": "Plans, shows the plan, asks on a terminal when money is at stake (elsewhere it wants `--yes`), makes what "
    "is to be made, writes the lock and the film. A failed shot skips what depends on it and nothing else. Ctrl-C and "
    "SIGTERM stop ordering and leave tasks running at the provider; the next run collects them and buys nothing "
    "twice. The command line may narrow the limits of `klingflow.yaml`, never widen them.",
    "status": "Shot, take, provider, task id, state, age and price, out of the ledger.",
    "resolve": "For a shot that ended in doubt (exit code 4): the answer to an order was lost, and nobody but you can see "
    "whether it was taken. Look in the provider's console. With `--task` the next run collects that task; with "
    "`--not-bought` it may buy again.",
    "takes": "Every take that the lock names, and which one counts.",
    "film": "Where a clip is missing it ends with 6.",
    "graph": "An arrow waits for a clip, dashed where it takes another frame than the last; a dotted line without a head "
    "(`meets`) does not wait. The SVG is drawn by klingflow itself.",
    "listen": "Orders nothing. Ctrl-C ends it.",
    "doctor": "Says what is wrong and how to mend it: also whether a published frame can be fetched back and whether the "
    "store refuses to overwrite. Costs nothing, but for `--paid-probe`, which asks first: it sends "
    "HiAPI's cheapest order twice with one `Idempotency-Key` and demands the same task.",
    "store": "A damaged clip is set aside, and what it was is said.",
    "schema": "Draft 2020-12, with descriptions and examples: an editor learns the format from it.",
}

EXAMPLES: Mapping[str, str] = {
    "init": "klingflow init my-film\nklingflow run my-film/film.yaml",
    "check": "klingflow check . --format github",
    "plan": "klingflow plan film.yaml --select 'tower+' --out plan.json",
    "run": "klingflow run film.yaml --provider animatic\nklingflow run film.yaml --max-spend 20 --yes --json > events.jsonl",
    "status": "klingflow status film.yaml --format json",
    "resolve": "klingflow resolve film.yaml tower --task 8e1e315e-b50d-4334-a231-be7d19a372f4\n"
    "klingflow resolve film.yaml tower --not-bought",
    "takes": "klingflow takes film.yaml",
    "film": "klingflow film film.yaml",
    "graph": "klingflow graph film.yaml --format svg > film.svg",
    "listen": "klingflow listen film.yaml --listen 127.0.0.1:8477",
    "doctor": "klingflow doctor film.yaml",
    "store": "klingflow store film.yaml",
    "schema": "klingflow schema storyboard > storyboard.schema.json",
}

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
    plan, events = schema.load("plan"), schema.load("events")
    return filled(
        COMMANDS,
        {
            "exits": table(["code", "meaning"], [(str(number), says) for number, says in exits()]),
            "commands": "\n".join(_command(name, part) for name, part in commands().items()),
            "plan": described(plan, plan),
            "step": described(plan["$defs"]["step"], plan),
            "totals": described(plan["$defs"]["totals"], plan),
            "events": table(["event", "when", "its fields"], [_event(one["then"]) for one in events["allOf"]]),
        },
    )


def exits() -> list[tuple[int, str]]:
    text = " ".join(app.EXITS.removeprefix("exit codes:").split())
    return [(int(number), says) for number, _, says in (part.strip().partition(" ") for part in text.split(";"))]


def commands() -> Mapping[str, argparse.ArgumentParser]:
    top = app.parser()
    found = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    choices: Mapping[str, argparse.ArgumentParser] = found.choices
    return choices


def _command(name: str, part: argparse.ArgumentParser) -> str:
    actions = [action for action in part._actions if not isinstance(action, argparse._HelpAction)]
    needed = {action for group in part._mutually_exclusive_groups if group.required for action in group._group_actions}
    rows = [(_written(action), _helped(action, action in needed)) for action in actions]
    usage = " ".join(["klingflow", name, *(_asked(action) for action in actions if not action.option_strings)])
    options = any(action.option_strings for action in actions)
    lines = [f"## klingflow {name}\n", f"{part.description[0].upper()}{part.description[1:]}. {SAYS[name]}\n"]  # type: ignore[index]
    lines.append(f"```\n{usage}{' [OPTIONS]' if options else ''}\n```\n")
    lines.append(table(["argument", "what it does"], rows))
    lines.append(f"```sh\n{EXAMPLES[name]}\n```\n")
    lines += [_shown(*one) for one in OUTPUT.get(name, ())]
    lines.append(f"Exit codes: {', '.join(map(str, ENDS[name]))}.\n")
    return "\n".join(lines)


OUTPUT: Mapping[str, Sequence[tuple[str, str, Sequence[str]]]] = {
    "check": (("A storyboard with three slips of the pen:", WRONG, ("check", "film.yaml")),),
    "plan": (("A first plan, on a provider that sells:", PLANNED, ("plan", "film.yaml")),),
}


def _shown(says: str, board: str, words: Sequence[str]) -> str:
    signs = ""
    if words[0] == "plan":
        signs = "\nThe signs: " + ", ".join(f"`{sign}` {action.value}" for action, sign in SIGN.items()) + ".\n"
    return f"{says}\n\n```\n$ klingflow {' '.join(words)}\n{run(words, {'film.yaml': board})}```\n{signs}"


def _asked(action: argparse.Action) -> str:
    name = _metavar(action)
    return {"?": f"[{name}]", "+": f"{name}…"}.get(str(action.nargs), name)


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

PROVIDER_PAGE = """\
# Providers

| provider | what it is |
| --- | --- |
| `animatic` | draws a rough moving film on this machine: free, no account, the same bytes for the same storyboard on the same library versions |
| `hiapi` | HiAPI, sells Kling 3.0 Omni: image-to-video and text-to-video, up to 4K |
| `mulerouter` | MuleRouter, sells the same model: image-, text- and reference-to-video, with elements and multi-shot |

A clip that was bought from one seller satisfies the other: the provider is not in a key. The animatic is a model of its own
and never stands for a bought clip. `provider:` in the storyboard chooses, for all shots under `defaults` or shot by shot;
`klingflow run --provider NAME` overrides it for one run.

```sh
export HIAPI_API_KEY=…                              # or MULEROUTER_API_KEY
klingflow doctor
klingflow run film.yaml --provider animatic         # a rehearsal: free, and the lock stays as it is
klingflow run film.yaml
```

What klingflow knows of both APIs comes from their documents and their own published clients, read 2026-11. Where these
are silent it says so, [below](#what-the-vendors-do-not-document).

## What each can do

[[caps]]

What a provider cannot do is refused by `klingflow check` at the shot's own place, before any money. An image that breaks a
limit is refused too; `images: {shrink: lossless}` or `{shrink: high-quality}` in `klingflow.yaml` lets klingflow send a copy
that fits. The original stays in the shot's key, and nothing is shrunk unless you say so.

## Keys and addresses

[[environment]]

They come from the environment alone. A key in `klingflow.yaml` is refused: a pull request could read or move it. A key is sent
to the API host of its provider and nowhere else, not to a download URL and not across a redirect. What klingflow fetches
by itself must be https and public; an address that you set in the environment widens that to its own host.

## Publishing frames

HiAPI takes images by public URL. So a frame, your still or the last frame of a clip, is put under a name made of its digest,
once, where HiAPI can read it:

```yaml
publish:
  to: s3://studio-frames/klingflow          # or gs://…, az://…, or a folder that a web server serves
  public_url: https://frames.example.com    # left out on object storage: presigned URLs
  expires: 24h
```

Object storage wants the extra `klingflow[objects]` and the usual credentials of the platform in the environment. `klingflow
doctor` publishes a picture of one pixel and fetches it back as a stranger would. Without `publish` a run that needs it is
refused at the plan, with the ways out: publish, `providers: {hiapi: {data_uri: true}}` (frames inside the request; HiAPI does not
document that for Kling), or `provider: mulerouter`.

MuleRouter takes frames inside the request: nothing is published. Its documents and its clients disagree about the form; klingflow
sends `data:image/png;base64,…`, and `providers: {mulerouter: {base64: raw}}` sends the bare Base64. When an order is refused over
an image, the message says so.

## Nobody pays twice: lost answers and doubt

Every order is on disk before it is sent: its exact bytes, its price, who and when. The task id is on disk before anything
waits for it. Whoever dies anywhere in between, the next run reads the ledger and goes on: it collects the task, buys nothing.

What if the answer to an order is lost? Then nobody knows whether it was taken.

- **HiAPI** takes an `Idempotency-Key`. klingflow derives it from the clip's key and the attempt and sends the very same bytes
  again: HiAPI answers with the first task and does not charge again. HiAPI keeps keys for about a day; klingflow relies on
  [[replay]] hours of it. After that the order is in doubt. The key is known from HiAPI's own clients, not from its API pages;
  `klingflow doctor --paid-probe` proves it on your own account, for the price of one short clip.
- **MuleRouter** documents nothing of the kind and has no list of tasks. The order is in doubt at once.

A shot in doubt stops, what depends on it is skipped, the others go on, and the run ends with exit code 4. Look in the provider's
console, then say what you saw:

```sh
klingflow status film.yaml
klingflow resolve film.yaml tower --task 8e1e315e-b50d-4334-a231-be7d19a372f4     # it was taken: the next run collects it
klingflow resolve film.yaml tower --not-bought                                   # it was not: the next run may buy it
```

A request that certainly never left (no connection was made) is not in doubt: it is sent again. Two runs at once on one store
see each other's orders in the ledger; each take is bought once, and both runs finish with it.

## Waiting, limits and callbacks

Tasks are asked after with growing, jittered pauses, close ones around the moment when such a clip is usually done, which
klingflow learns from the ledger. A failed poll costs nothing; a task that is still being made after [[patience]] minutes ends the
wait with exit code 7, and the next run collects it. `run --detach` leaves as soon as its orders are taken.

[[limits]]

A provider that throttles gets fewer tasks at once, and slowly more again. `concurrency` in `klingflow.yaml` is the most.

Callbacks only save polls. They are believed for nothing: a verified one wakes the poller, which asks the provider itself. A forged
one changes nothing, a lost one costs the poll interval.

```sh
export HIAPI_WEBHOOK_SECRET=…
klingflow run film.yaml --listen 127.0.0.1:8477 --callback-url https://hooks.example.com/hiapi
klingflow listen film.yaml --listen 127.0.0.1:8477       # alone, for detached runs
```

The receiver serves `/hiapi` and `/mulerouter`, each only when its secret is set, and the path of `--callback-url`; TLS belongs to
what stands before it. HiAPI is told the callback URL with each order; MuleRouter's events are set up in its console for the whole account. A callback more than
[[window]] seconds old, larger than [[body]] KiB, or with a wrong signature gets an empty 404.

## Prices

Neither seller publishes a price that a program could read. The shipped table is Kling's own list price for the model (Kling
docs, pricing, read 2026-11), in USD a second, and is marked as an estimate wherever it is shown:

[[prices]]

State what you really pay under `prices` in `klingflow.yaml`; then nothing is called an estimate. Spend is booked when an order
is accepted, and an order in doubt counts as spent. A run that would exceed `limits` or `--max-spend`, `--max-seconds`,
`--max-tasks` is refused before it spends (exit code 5). With a limit on spend, so is one whose price is not known.

## When something fails

One failed shot skips what depends on it and nothing else. Each class has its rule:

[[failures]]

"Sent again" is free: nothing was bought. A "new attempt" is a new order for a task that failed at the provider; klingflow
makes it by itself only where that can help. "A later run" says whether `klingflow run` orders the same again: where the same order
would fail again, only a changed shot or a new `take` buys once more.

What klingflow finds by itself, without an answer of a provider as the reason:

[[own_failures]]

A moderated shot is told with the provider's words, the shot's place, and, for a continued shot, the clip that its frame
came from.

## What the vendors do not document

| open | what klingflow does |
| --- | --- |
| HiAPI: the idempotency key is in its clients, not on its API pages | sends it always; `doctor --paid-probe` proves it; past its window an order is in doubt |
| HiAPI: whether a refused order uses the key up | a new attempt has a new key |
| HiAPI: whether the model returns a `last_frame` of its own | cuts the last displayed frame from the clip itself, always |
| HiAPI: `data:` URLs for Kling, its own limits of images and prompts | `data_uri` is off; the limits are Kling's own for this model |
| HiAPI: which failed tasks are worth another try | decides by the error's code; a code that no document knows is not ordered again |
| MuleRouter: Base64 with or without `data:` in front | `data-uri`, and a setting for `raw` |
| MuleRouter: which path takes reference images | the one of its documents; its own client uses another |
| MuleRouter: reference images and elements beside a first frame | sends them as documented; its newest client no longer offers them there |
| MuleRouter: the headers of its callbacks | the Standard Webhooks scheme, to which its secret belongs; not proven |
| MuleRouter: its table of error codes, request limits, for how long results live | knows the codes that were seen; downloads at once; asks gently |
| both: a status word that nobody knows | still being made; said once |
| both: a task called done that names no video | failed, and never ordered again unasked |
| both: whether failed and moderated tasks are billed | booked as spent |
| both: prices | the model's list price, as an estimate |

To try all of this without an account, run klingflow against stand-ins of both APIs: [standins.md](standins.md).
"""


def providers_page() -> str:
    caps = {name: provider.caps for name, provider in PROVIDERS.items()}
    return filled(
        PROVIDER_PAGE,
        {
            "caps": table(["", *caps], [[says, *map(tell, caps.values())] for says, tell in CAPS]),
            "environment": table(
                ["", "key", "address", "callback secret"],
                [
                    (name, f"`{c.key_variable}`", f"`{c.base_variable}`, else `{c.base_url}`", f"`{SECRETS[name]}`")
                    for name, c in caps.items()
                    if c.paid
                ],
            ),
            "replay": f"{(hiapi.caps.replay_s or 0) / 3600:g}",
            "patience": f"{buyer.TASK_TIMEOUT_S / 60:g}",
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
                    for name, (silent, sound) in price.LIST_PRICE.items()
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


FRAMES = {"url": "public URLs", "inline": "inside the request", "blob": "files"}

CAPS: Sequence[tuple[str, Callable[[Caps], str]]] = (
    ("model", lambda c: listed([code(name) for name in c.models], "and")),
    ("seconds of a clip", lambda c: f"{c.seconds[0]} to {c.seconds[1]}"),
    ("resolutions", lambda c: ", ".join(c.resolutions)),
    ("characters of a prompt", lambda c: f"{c.prompt_chars:,}"),
    ("how frames reach it", lambda c: FRAMES[c.frames]),
    ("image formats", lambda c: ", ".join(c.image_formats)),
    ("an image, at most", lambda c: _size(c.image_bytes)),
    ("a side, at least", lambda c: f"{c.image_side} pixels"),
    ("longer side over shorter, at most", lambda c: f"{c.image_ratio:g}"),
    (
        "negative prompt, multi-shot, images, elements",
        lambda c: "no" if c is hiapi.caps else "yes" if c.paid else "written into the picture",
    ),
    ("aspect ratio", lambda c: "without a first frame" if c is hiapi.caps else "yes"),
    ("a lost answer", lambda c: "asked again, free" if c.replay_s else "in doubt"),
    ("costs money", lambda c: "yes" if c.paid else "no"),
)

PACE: Sequence[tuple[str, Callable[[str, Caps], str]]] = (
    ("tasks at once, to begin with", lambda name, c: str(c.concurrency)),
    ("requests a minute", lambda name, c: str(c.requests_per_minute or "not documented")),
    ("requests at once", lambda name, c: str(CONCURRENT.get(name, "not documented"))),
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
    RunFailure.FROZEN: "it would have to be made, and `--frozen` makes nothing",
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

PAGES: Mapping[str, Callable[[], str]] = {
    "format.md": format_page,
    "commands.md": commands_page,
    "providers.md": providers_page,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
