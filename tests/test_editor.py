"""What an editor makes of the shipped schemas: a real YAML language server, and ajv in strict mode.

Needs node and the packages of tests/editor/package.json; .ci/run installs them.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from klingflow.output import scaffold
from klingflow.storyboard import schema
from tests.tools import NODE, needs

HERE = Path(__file__).parent / "editor"
SERVER = HERE / "node_modules/yaml-language-server/bin/yaml-language-server"

pytestmark = [pytest.mark.slow, needs("npm install --prefix tests/editor --no-package-lock", NODE, SERVER)]

WRONG = """\
# yaml-language-server: $schema=schemas/storyboard.schema.json
klingflow: 1
defaults: {prompt: waves}
shots:
  - id: a
    first_frame: a.png
  - id: b
    continues: a
    meets: a
  - id: c
    prompt: waves
    prompt_file: c.txt
  - id: d
    clip: d.mp4
    prompt: waves
  - id: E
  - id: f
    prompt: null
    prompt_file: f.txt
"""


class Editor:
    """Speaks the language server protocol over the server's pipes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = subprocess.Popen(
            [NODE, str(SERVER), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.asked = 0
        self.ask("initialize", {"processId": None, "rootUri": root.as_uri(), "capabilities": {}})
        self.send({"method": "initialized", "params": {}})
        settings = {"yaml": {"validate": True, "hover": True, "schemaStore": {"enable": False}}}
        self.send({"method": "workspace/didChangeConfiguration", "params": {"settings": settings}})

    def send(self, message: dict[str, object]) -> None:
        assert self.server.stdin
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.server.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.server.stdout
        length = 0
        while line := self.server.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length, "the server has ended"
        message = json.loads(self.server.stdout.read(length))
        if "id" in message and "method" in message:  # it asks the editor for something: there is nothing
            items = message.get("params", {}).get("items", []) if isinstance(message.get("params"), dict) else []
            self.send({"id": message["id"], "result": [None for _ in items]})
        return message

    def ask(self, method: str, params: object) -> Any:
        self.asked += 1
        self.send({"id": self.asked, "method": method, "params": params})
        while True:
            message = self.read()
            if message.get("id") == self.asked and "method" not in message:
                return message["result"]

    def faults(self, name: str) -> list[tuple[int, str]]:
        """(line, message) of each fault that the editor underlines."""
        uri = (self.root / name).as_uri()
        text = (self.root / name).read_text("utf-8")
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        while True:
            message = self.read()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri:
                return [(d["range"]["start"]["line"] + 1, d["message"]) for d in message["params"]["diagnostics"]]

    def hover(self, name: str, line: int, col: int) -> str:
        where = {"textDocument": {"uri": (self.root / name).as_uri()}, "position": {"line": line - 1, "character": col}}
        return str(self.ask("textDocument/hover", where)["contents"]["value"])


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Editor]:
    scaffold.create(tmp_path, "film")
    made = Editor(tmp_path)
    patience = threading.Timer(120, made.server.kill)  # then the test reads the end of its output, and fails
    patience.start()
    yield made
    patience.cancel()
    made.server.kill()
    made.server.communicate()


def test_an_editor_finds_no_fault_in_what_init_writes(editor: Editor) -> None:
    assert editor.faults("film.yaml") == []
    assert editor.faults("klingflow.yaml") == []


def test_an_editor_tells_what_may_not_stand_together_in_plain_words(editor: Editor) -> None:
    (editor.root / "wrong.yaml").write_text(WRONG, "utf-8")
    assert sorted(editor.faults("wrong.yaml")) == [
        (7, "a shot begins with one frame: keep continues or meets, not both"),
        (10, "keep prompt or prompt_file, not both"),
        (13, "prompt says how to make a clip, but the shot brings one of its own: remove prompt or clip"),
        (16, "small letters, digits, - and _, beginning with a letter or digit; not a name that Windows reserves "
         "(con, nul, com1, …)"),
    ]  # fmt: skip
    assert "Begins with the last frame of that shot's clip" in editor.hover("wrong.yaml", 8, 6)


def test_an_editor_tells_of_a_shot_without_anything_and_of_files_elsewhere(editor: Editor) -> None:
    text = "klingflow: 1\nshots:\n  - id: a\n  - id: b\n    clip: /tmp/b.mp4\n  - id: c\n    prompt_file: ../c.txt\n"
    (editor.root / "bare.yaml").write_text(WRONG.splitlines()[0] + "\n" + text, "utf-8")
    assert sorted(editor.faults("bare.yaml")) == [
        (4, "the shot says nothing to show: give it a prompt, a frame or a clip"),
        (6, "name a file inside the project, relative to the storyboard, with /"),
    ]


def test_an_editor_tells_the_rules_inside_a_field_in_plain_words(editor: Editor) -> None:
    text = """\
klingflow: 1
shots:
  - id: a
    prompt: ""
    first_frame: {shot: b, still: b}
  - id: b
    prompt: x
    multi_shot: {by: intelligence, shots: [{prompt: x, duration: 3}]}
"""
    (editor.root / "rules.yaml").write_text(WRONG.splitlines()[0] + "\n" + text, "utf-8")
    assert sorted(editor.faults("rules.yaml")) == [
        (5, "an empty prompt says nothing: write what happens, or remove the key"),
        (6, "a frame is one of shot, still or url, not several"),
        (9, "shots stand only beside by: customize"),
    ]


def test_a_hover_begins_with_the_name_of_the_field(editor: Editor) -> None:
    """Not with that of what the field has in common with others."""
    text = """\
klingflow: 1
film: {audio: a.wav}
shots:
  - {id: a, prompt_file: a.txt, elements: [{frontal_image: a.png}]}
  - {id: b, clip: b.mp4}
  - {id: c, first_frame: c.png, last_frame: c.png}
  - {id: d, first_frame: {shot: a}, last_frame: {still: c}, images: [d.png]}
"""
    (editor.root / "hover.yaml").write_text(WRONG.splitlines()[0] + "\n" + text, "utf-8")
    assert editor.faults("hover.yaml") == []
    lines = (editor.root / "hover.yaml").read_text("utf-8").splitlines()
    for number, field, title in (
        (3, "audio", "Music bed"),
        (5, "prompt_file", "Prompt file"),
        (5, "frontal_image", "Frontal image"),
        (6, "clip", "Clip"),
        (7, "first_frame", "First frame"),
        (7, "last_frame", "Last frame"),
        (8, "first_frame", "First frame"),
        (8, "last_frame", "Last frame"),
        (8, "images", "Reference images"),
    ):
        shown = editor.hover("hover.yaml", number, lines[number - 1].index(field) + 1)
        assert shown.startswith(f"#### {title}\n"), (field, shown)


def test_the_project_file_names_its_schema(editor: Editor) -> None:
    path = editor.root / "klingflow.yaml"
    path.write_text(path.read_text("utf-8") + "\nstor: x\n", "utf-8")
    assert any("stor" in message for _, message in editor.faults("klingflow.yaml"))


def test_every_schema_compiles_in_the_strict_mode_of_ajv(tmp_path: Path) -> None:
    paths = []
    for name in schema.SCHEMAS:
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(schema.text(name), "utf-8")
    ended = subprocess.run([NODE, HERE / "compile.js", *paths], capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
