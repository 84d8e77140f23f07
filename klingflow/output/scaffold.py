"""What `klingflow init` writes: a small project that runs at once, with no account and no file of anybody else's.

A storyboard that shows the format, its stills, the project file with its settings explained, the schema for the
editor, .gitignore, .gitattributes, and the CI recipe of docs/ci with the klingflow that it runs. Nothing that exists is
ever overwritten.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from klingflow.core.digest import of_bytes
from klingflow.core.errors import UsageError
from klingflow.output import vendored
from klingflow.storyboard import schema

FRAMES = Path(__file__).parents[1] / "frames"
"""Pictures that pipelines/draw.py drew."""
STILLS = ("lighthouse.png", "lantern.png", "dawn.png")
PLAN_WORKFLOW = ".github/workflows/klingflow-plan.yml"
VENDOR = "vendor/klingflow"
"""Where the recipes look for the action, from the root of the repository."""


def create(folder: Path, name: str) -> list[Path]:
    """Writes the project into `folder`, with the storyboard NAME.yaml; returns the files written.

    Raises UsageError, before anything is written, when a file is already there or the name is no file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name == "klingflow":
        raise UsageError(
            f"'{name}' cannot be the name of a storyboard",
            "use letters, digits, - and _, as in: klingflow init --name harbour (klingflow.yaml is the project file)",
        )
    texts = {
        f"{name}.yaml": STORYBOARD.replace("NAME", name),
        "klingflow.yaml": PROJECT,
        ".gitignore": GITIGNORE,
        ".gitattributes": GITATTRIBUTES,
        **{f"schemas/{name}.schema.json": schema.text(name) for name in ("storyboard", "project")},
    }
    files = {folder / path: text.encode() for path, text in texts.items()}
    files |= _ci(folder, name)
    files |= {folder / "frames" / still: (FRAMES / still).read_bytes() for still in STILLS}
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there:
        raise UsageError(
            f"already there, and init overwrites nothing: {', '.join(str(path) for path in there)}",
            "give a folder of its own, as in: klingflow init my-film",
        )
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data)
    except OSError as exc:
        raise UsageError(f"the project cannot be written: {exc.strerror}: {exc.filename}") from exc
    return list(files)


def _ci(folder: Path, name: str) -> dict[Path, bytes]:
    """The recipe of docs/ci for this storyboard, where GitHub looks for it: at the root of the repository that `folder`
    is in, if in one. And the action that it uses, with this very klingflow; a repository that has one keeps its own.

    Raises UsageError where a workflow cannot name the folder.
    """
    here = folder.resolve()
    root = next((above for above in (here, *here.parents) if (above / ".git").exists()), here)
    inside = here.relative_to(root).as_posix()
    if inside == ".":
        root, workflow = folder, PLAN_WORKFLOW
    else:
        if re.search(r"[\x00-\x1f\x7f]|\$\{\{|^\s|\s$", inside):
            raise UsageError(f"a workflow cannot name the folder {inside!r}", "choose another name for it")
        slug = re.sub(r"[^A-Za-z0-9]+", "-", inside)
        mark = "" if slug == inside else f"-{of_bytes(inside.encode())[:6]}"  # a/b and a-b are two films
        workflow = PLAN_WORKFLOW.replace(".yml", f"-{slug}{mark}.yml")
    text = vendored.recipe(vendored.PLAN_RECIPE).decode()
    if inside != ".":
        text = text.replace(PLAN_WORKFLOW, workflow)
        title = json.dumps(f"klingflow plan: {inside}", ensure_ascii=False)
        text = text.replace("name: klingflow plan\n", f"name: {title}\n", 1)
    storyboard = f"{name}.yaml" if inside == "." else f"{inside}/{name}.yaml"
    text = text.replace("            film.yaml\n", f"            {storyboard}\n")
    files = {root / workflow: text.encode()}
    action = root / VENDOR / vendored.ACTION
    if not action.exists():
        files[action] = vendored.recipe(vendored.ACTION)
        wheel = vendored.wheel()
        if wheel is not None:
            files[root / VENDOR / wheel[0]] = wheel[1]
    return files


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:  # "x": a file that appeared meanwhile is not ours to replace
        file.write(data)


STORYBOARD = """\
# yaml-language-server: $schema=schemas/storyboard.schema.json
#
#   klingflow check NAME.yaml    everything that is wrong in here, at once
#   klingflow plan NAME.yaml     what a run would make, why, and at what price
#   klingflow run NAME.yaml      makes it: out/NAME/film.mp4
#
# Run it twice: the second run makes nothing. Then change one prompt, and plan again.
klingflow: 1
title: The keeper's light

vars:                                  # for every prompt
  keeper: an old lighthouse keeper in a dark wool coat
  look: 35 mm film, soft grain, blue hour, warm lamplight

defaults:                              # for every shot that does not say otherwise
  # The animatic draws rough clips on this machine: free, no account. For the real film write `hiapi`, `mulerouter`,
  # `fal` or `kling` here, and set the key that `klingflow doctor` names. Then this rehearses it for nothing:
  #   klingflow run NAME.yaml --provider animatic
  provider: animatic
  resolution: 720p                     # 720p, 1080p or 4K
  duration: 3                          # seconds, 3 to 15
  sound: true

shots:                                 # in film order
  - id: opening                        # no still: from the text alone
    prompt: Black rock and white surf before first light, a beam of light sweeps over the sea. {{ look }}
    aspect_ratio: "16:9"

  - id: tower
    first_frame: frames/lighthouse.png # the still that the clip begins with
    prompt: Waves break below the lighthouse, the lamp turns, slow push-in. {{ look }}
    tags: [exterior]

  - id: lamp
    continues: tower                   # begins with the last frame of tower's clip, and waits for it
    last_frame: frames/lantern.png     # ... and ends with this still
    prompt: Through the window of the house, {{ keeper }} sets down a storm lantern. {{ look }}
    tags: [interior]

  - id: vigil
    meets: lamp                        # begins with the still that lamp ends with: needs no clip, does not wait
    prompt: The flame steadies, far out the beam goes round and round. {{ look }}
    tags: [interior]

  - id: dawn
    continues: vigil
    last_frame: frames/dawn.png
    prompt: Night thins, the first boat is out on still water, the sun comes up. {{ look }}
    notes: "Not happy with a clip? Write `take: 2` here: a new take is a new purchase, and others see it in review."
    tags: [exterior]
"""

PROJECT = """\
# yaml-language-server: $schema=schemas/project.schema.json
#
# The project: where clips are kept, how stills reach an API, and what a run may spend.
# Keys never stand in a file: HIAPI_API_KEY, MULEROUTER_API_KEY and the others come from the environment.

store: .klingflow/store                # a folder, or s3://bucket/prefix, gs://..., az://...: shared by every runner

# Stills go inside the requests. With this HiAPI gets them by URL: under the digest of their content.
# publish:
#   to: s3://my-bucket/frames          # or a folder of this project that a web server serves
#   public_url: https://frames.example.com
#   expires: 24h

# A run that would exceed one of these is refused before it spends anything.
limits:
  spend: 20.00                         # USD a run
  seconds: 300                         # of clip
  tasks: 60

# providers:
#   hiapi: {concurrency: 4}

# What you really pay, in USD a second; klingflow's own figures are estimates.
# `klingflow prices --refresh` reads HiAPI's list.
# prices:
#   hiapi: {720p: {silent: 0.084, sound: 0.112}}
"""

GITIGNORE = """\
# Clips and the ledger live in the store; share it through object storage, not through git.
.klingflow/
# Tasks that were paid for and not collected yet. A committed one is not believed.
*.tasks.jsonl
# Rebuilt from the store at will.
out/
"""

GITATTRIBUTES = """\
# Two branches that made the same shot anew meet without a conflict in the lock. Once in every clone:
#   git config merge.klingflow.driver 'klingflow lock merge %O %A %B %P'
# Without it git leaves conflict markers, and `klingflow run` reads both sides.
*.lock.yaml merge=klingflow
"""
