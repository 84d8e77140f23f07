"""The house: who may know whom. Read from the source text, so that an import which is never run counts too."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "klingflow"
FLOORS = (
    "core",
    "storyboard",
    "planning",
    "providers",
    "io",
    "animatic",
    "execution",
    "output",
    "app",
    "web",
    "farm",
    "cli",
)
"""From the ground up: a module imports from its own floor and from those below it."""

OUTSIDE = {"os", "asyncio", "time", "socket", "pathlib", "av", "httpx", "subprocess"}
"""What a pure floor may not touch. (`shutil`, `tempfile` and the like come by way of these.)"""

HOUSES = {
    "httpx": {"klingflow.io.http"},
    "obstore": {"klingflow.io.objects"},
    "av": {
        "klingflow.io.media",
        "klingflow.io.downmix",
        "klingflow.io.picture_digest",
        "klingflow.animatic.renderer",
        "klingflow.animatic.slate",
        "klingflow.output.film",
        "klingflow.output.parts",
        "klingflow.output.seam_measure",
        "klingflow.output.sound",
    },
    "opentimelineio": {"klingflow.output.otio"},
    "cv2": {"klingflow.output.seam_measure"},
    "numpy": {"klingflow.output.seam_measure"},
    "h11": {"klingflow.io.webhook", "klingflow.web.server"},
    "c2pa": {"klingflow.output.credentials"},
    "cryptography": {"klingflow.providers.fal", "klingflow.output.credentials"},
    "jsonschema": {"klingflow.storyboard.schema", "klingflow.testing"},
    "yaml": {"klingflow.storyboard.yamlread"},
    "jinja2": {"klingflow.storyboard.prompt", "klingflow.output.page"},
    "rich": {"klingflow.output.progress"},
    "dbos": {"klingflow.farm.engine"},
    "opentelemetry": {"klingflow.output.traces"},
    "sqlalchemy": {"klingflow.farm.engine"},
}
"""Libraries that are at home in these modules alone."""

HIDDEN = {
    ("klingflow.animatic.captions", "klingflow.animatic.lettering"): "Pillow and the fonts: only captions beyond ASCII",
    ("klingflow.cli.farm", "klingflow.farm.engine"): "the engine is an extra",
    ("klingflow.cli.farm", "klingflow.farm.start"): "the engine is an extra",
    ("klingflow.cli.farm", "klingflow.farm.work"): "the engine is an extra",
    ("klingflow.cli.worker", "klingflow.farm.start"): "the engine is an extra",
    ("klingflow.cli.worker", "klingflow.farm.work"): "the engine is an extra",
    ("klingflow.cli.app", "klingflow.cli.hints"): "what to type instead: only where something is typed wrong",
    ("klingflow.cli.app", "klingflow.core.source"): "showing what was typed wrong, likewise",
    ("klingflow.cli.app", "klingflow.output.shown"): "what was shown before: check and plan alone",
    ("klingflow.cli.app", "klingflow.cli.streams"): "the standard streams, after `--version` and `--help` are answered",
    ("klingflow.cli.app", "klingflow.cli.error_report"): "the error tree, after `--version` and `--help` are answered",
    ("klingflow.app.outputs", "klingflow.io.media"): "av: a run with nothing to make never looks at a clip",
    ("klingflow.app.outputs", "klingflow.app.film_record"): "what a film says: only where it is joined",
    ("klingflow.app.outputs", "klingflow.output.provenance"): "likewise",
    ("klingflow.app.credentials", "klingflow.output.credentials"): "c2pa is an extra, and only what is signed needs it",
    ("klingflow.app.library", "klingflow.app.credentials"): "git: only where a film is signed or compared",
    ("klingflow.app.outputs", "klingflow.output.film"): "av: a film that stands already is not joined again",
    ("klingflow.app.outputs", "klingflow.animatic.missing"): "Pillow: only a draft shows cards",
    ("klingflow.app.outputs", "klingflow.output.otio"): "OpenTimelineIO: a timeline that stands already is left",
    ("klingflow.app.outputs", "klingflow.output.echo"): "av, likewise: what two clips share is measured once",
    ("klingflow.io.project", "klingflow.io.media"): "av: a clip that was looked into once is known by its digest",
    ("klingflow.io.project", "klingflow.io.picture_digest"): "decoding: only a file that the lock does not know",
    ("klingflow.io.picture_digest", "klingflow.io.media"): "av: no still needs it",
    ("klingflow.app.library", "klingflow.app.base_plan"): "git and comparing: only a plan against a ref",
    ("klingflow.app.library", "klingflow.app.collector"): "the engine and the network: only collecting",
    ("klingflow.app.library", "klingflow.app.draft"): "the media library: only a draft",
    ("klingflow.app.library", "klingflow.app.outputs"): "the media library: only where a film is looked for",
    ("klingflow.app.library", "klingflow.app.plan_snapshot"): "the saved plan: only where one is saved or run",
    ("klingflow.app.library", "klingflow.app.choosing"): "the lock and git: only where a take is chosen",
    ("klingflow.app.library", "klingflow.app.planner"): "planning: a check plans nothing",
    ("klingflow.app.library", "klingflow.app.review"): "av and Pillow: only pictures of a change",
    ("klingflow.app.library", "klingflow.app.report"): "planning and what runs use: only a report",
    ("klingflow.app.library", "klingflow.app.runner"): "the engine and the network: only a run",
    ("klingflow.app.library", "klingflow.app.seams"): "the joins of the film: only seams",
    ("klingflow.app.seams", "klingflow.output.seam_measure"): "OpenCV is an extra, and only what is new is measured",
    ("klingflow.app.library", "klingflow.app.session"): "store and ledger: a check has none",
    ("klingflow.app.library", "klingflow.app.settle"): "the network: only resolve",
    ("klingflow.app.library", "klingflow.app.take_in"): "the network: only take-in",
    ("klingflow.app.library", "klingflow.app.takes"): "the lock: only takes",
    ("klingflow.app.library", "klingflow.app.timeline"): "the media library: only export and import",
    ("klingflow.app.library", "klingflow.app.tasks"): "the ledger: only status",
    ("klingflow.app.library", "klingflow.io.durable"): "writing: only where a plan is saved",
    ("klingflow.app.library", "klingflow.output.scaffold"): "what a new project holds: only init",
    ("klingflow.app.library", "klingflow.storyboard.schema"): "schemas as text: only where one is printed",
    ("klingflow.app.library", "klingflow.providers.schemas"): "likewise",
    ("klingflow.app.library", "klingflow.output.planfile"): "the saved plan: only where one is saved or run",
    ("klingflow.app.library", "klingflow.planning.plan"): "planning: a check plans nothing",
    ("klingflow.app.library", "klingflow.planning.price"): "planning: a check plans nothing",
    ("klingflow.app.planner", "klingflow.io.store_origin"): "git: only a plan that has paid shots",
    ("klingflow.app.lock_file", "klingflow.io.git"): "git: only where it could not merge a lock",
    ("klingflow.app.approvals", "klingflow.io.git"): "git: only where something waits for a pick",
    ("klingflow.animatic.service", "klingflow.animatic.renderer"): "av: only where a clip is drawn",
    ("klingflow.app.session", "klingflow.io.git"): "git: only where there are notes of paid tasks",
    ("klingflow.app.preflight", "klingflow.io.media"): "av: a run with nothing to order does not look whether it works",
    ("klingflow.app.report", "klingflow.app.base_plan"): "git and comparing: a page that stays as it is needs neither",
    ("klingflow.app.report", "klingflow.io.git"): "likewise",
    ("klingflow.app.report", "klingflow.planning.compare"): "likewise",
    ("klingflow.app.report", "klingflow.output.report"): "jinja2: only a page that is written",
    ("klingflow.app.report", "klingflow.output.sheet"): "Pillow: only a contact sheet",
    ("klingflow.app.settle", "klingflow.io.media"): "av: only --accept looks at a clip",
    ("klingflow.app.take_in", "klingflow.io.media"): "av: a clip that is on record is not looked at",
    ("klingflow.cli.takes", "klingflow.cli.takes_page"): "the network: only --open",
    ("klingflow.cli.plan", "klingflow.output.markdown"): "only --format markdown",
    ("klingflow.app.local_clips", "klingflow.io.media"): "av: only a clip of one's own is looked at",
    ("klingflow.output.plantext", "klingflow.planning.compare"): "comparing: only where a text changed",
    ("klingflow.io.storage_factory", "klingflow.io.objects"): "obstore is an extra",
}
"""Every import of ours that hides in a function, and what it spares. A new one is a decision, not an accident."""

PURE = FLOORS[:4]


@dataclass(frozen=True)
class Import:
    module: str
    """Who imports."""
    name: str
    """What: a module, with its dots."""
    line: int
    hidden: bool
    """In a function."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax tree of each module: read by the first test that looks, not by every worker as it collects."""
    out = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        out[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"), str(path))
    return out



def _imports(module: str, node: ast.AST, hidden: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = hidden or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        match child:
            case ast.Import():
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, hidden)
            case ast.ImportFrom():
                assert child.module is not None, f"{module}:{child.lineno}: imports are absolute"
                assert child.level == 0, f"{module}:{child.lineno}: imports are absolute"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    yield Import(module, whole if whole in sources() else child.module, child.lineno, hidden)
            case _ if not _types_only(child):
                yield from _imports(module, child, inside)


def _types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def imports() -> list[Import]:
    return [found for module, tree in sources().items() for found in _imports(module, tree)]


def ours() -> list[Import]:
    return [found for found in imports() if found.name in sources() and found.name != "klingflow"]


def _floor(module: str) -> int:
    """The root package has the version alone and lies under the ground; `__main__` and `testing` stand on the roof."""
    if module == "klingflow":
        return -1
    name = module.split(".")[1]
    return len(FLOORS) if name in ("__main__", "testing") else FLOORS.index(name)


def test_every_module_stands_on_a_floor() -> None:
    names = {module.split(".")[1] for module in sources() if module != "klingflow"}
    assert names == {*FLOORS, "__main__", "testing"}
    assert len(imports()) > 300  # this test reads what it thinks it reads


def test_imports_go_down_only() -> None:
    assert [str(found) for found in ours() if _floor(found.name) > _floor(found.module)] == []


def test_the_command_line_and_the_pages_use_the_library_and_what_shows() -> None:
    """A page, a worker or another program can do whatever a command does. Of `klingflow` itself only public names are
    there to be imported; of the floors below, what turns values into text."""
    faces = ("klingflow.cli", "klingflow.web")
    used = [found for found in imports() if found.module.startswith(faces) and found.name in sources()]
    shown = ("klingflow.cli.", "klingflow.web.", "klingflow.farm.", "klingflow.output.", "klingflow.core.")
    assert {found.name for found in used if not found.name.startswith(shown)} == {"klingflow"}


def test_no_modules_import_each_other_in_a_ring() -> None:
    graph: dict[str, set[str]] = {}
    for found in ours():
        if found.name != found.module:
            graph.setdefault(found.module, set()).add(found.name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as ring:
        pytest.fail(" -> ".join(ring.args[1]))


def test_no_import_of_ours_hides_in_a_function_but_those_that_are_listed() -> None:
    assert {(found.module, found.name) for found in ours() if found.hidden} == set(HIDDEN)


def test_modules_are_imported_by_name_only_in_app() -> None:
    calls = [
        (module, ast.unparse(node))
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
    ]
    assert [module for module, _ in calls] == ["klingflow", "klingflow.cli.app"], calls


def test_pure_floors_touch_nothing_outside() -> None:
    looks = "klingflow.providers.installed"  # it finds packages: where they lie is its business
    pure = [found for found in imports() if _floor(found.module) in range(len(PURE)) and found.module != looks]
    assert [str(found) for found in pure if found.name.partition(".")[0] in OUTSIDE] == []
    # What opens a file without any import.
    opens = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        if _floor(module) in range(len(PURE))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "input", "print")
    ]
    assert opens == []


@pytest.mark.parametrize("library", sorted(HOUSES))
def test_a_library_is_at_home_in_its_modules_alone(library: str) -> None:
    users = {found.module for found in imports() if found.name.partition(".")[0] == library}
    assert users == HOUSES[library]


def test_the_core_below_the_command_line_never_prints_or_exits() -> None:
    """Text reaches people through cli and output.progress, where it is redacted."""
    found = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        if _floor(module) < FLOORS.index("cli") and module != "klingflow.output.progress"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "quit")
    ]
    assert found == []


def test_one_line_of_the_program_sends_a_paid_request() -> None:
    """And doctor's probe, which says what it costs and asks first."""
    sends = [
        module
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "paid" and ast.unparse(node.func).endswith(".send") and ast.unparse(word.value) != "False"
    ]
    assert sends == ["klingflow.app.doctor", "klingflow.execution.sending"]
    # Nor does one hide behind a word of another name or a keyword that is passed on.
    passed = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(".send")
        and (len(node.args) > 1 or any(word.arg is None for word in node.keywords))
    ]
    assert passed == []
