from __future__ import annotations

import itertools
import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

from klingflow.core.model import Film
from klingflow.output import drawing
from tests.storyboards import film

LOOP = """\
klingflow: 1
title: Harbour <Dawn> & "end" `x`
defaults: {provider: hiapi}
shots:
  - {id: dawn, prompt: x}
  - {id: harbour, continues: dawn, last_frame: h.png}
  - {id: market, meets: harbour, duration: 7}
  - {id: gulls, first_frame: {shot: dawn, frame: -3}}
  - {id: end, continues: market, last_frame: {shot: dawn, frame: first}}
  - {id: insert, clip: x.mp4}
  - {id: early, meets: late}
  - {id: late, continues: early, last_frame: l.png}
"""
NAME = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> list[tuple[float, float, float, float]]:
    rects = [rect for rect in ET.fromstring(text).iter(f"{NAME}rect") if (rect.get("class") or "").startswith("box")]
    return [tuple(float(rect.get(side) or 0) for side in ("x", "y", "width", "height")) for rect in rects]  # type: ignore[misc]


def nothing_overlaps(made: Film) -> None:
    text = drawing.svg([made])
    placed = boxes(text)
    assert len(placed) == len(made.shots)
    for (x, y, wide, high), (x2, y2, _, _) in itertools.combinations(placed, 2):
        assert x + wide < x2 or x2 + wide < x or y + high < y2 or y2 + high < y
    root = ET.fromstring(text)
    assert all(x >= 0 and x + wide <= float(root.get("width") or 0) for x, _, wide, _ in placed)
    assert all(y >= 0 and y + high <= float(root.get("height") or 0) for _, y, _, high in placed)
    # A line passes a box level and outside of it.
    for path in root.iter(f"{NAME}path"):
        for y_text, x_text in re.findall(r" ([\d.]+)H([\d.]+)", path.get("d") or ""):
            for x, y, wide, high in placed:
                assert not (x < float(x_text) <= x + wide and y <= float(y_text) <= y + high)


def test_mermaid_shows_each_shot_and_what_it_waits_for() -> None:
    assert drawing.mermaid([film(LOOP)]) == (
        '---\ntitle: "Harbour <Dawn> & \\"end\\" \'x\' (film)"\n---\nflowchart LR\n'
        '  s0["dawn<br/>5 s · hiapi · 1080p"]\n'
        '  s1["harbour<br/>5 s · hiapi · 1080p"]\n'
        '  s2["market<br/>7 s · hiapi · 1080p"]\n'
        '  s3["gulls<br/>5 s · hiapi · 1080p"]\n'
        '  s4["end<br/>5 s · hiapi · 1080p"]\n'
        '  s5["insert<br/>a clip of one\'s own"]\n'
        '  s6["early<br/>5 s · hiapi · 1080p"]\n'
        '  s7["late<br/>5 s · hiapi · 1080p"]\n'
        "  s0 --> s1\n"
        '  s1 -.-|"meets"| s2\n'
        '  s0 -->|"-3"| s3\n'
        "  s2 --> s4\n"
        '  s0 -.->|"first frame as last_frame"| s4\n'
        '  s7 -.-|"meets"| s6\n'
        "  s6 --> s7\n"
    )


def test_a_reference_video_of_a_shot_is_a_line_too() -> None:
    made = film("""\
        klingflow: 1
        shots:
          - {id: a, prompt: a}
          - {id: b, prompt: b, continues: {shot: a, motion: 3s}}
          - {id: c, prompt: c, videos: [{shot: a}]}
          - {id: d, prompt: d, videos: [{shot: b, last: 4s}, x.mp4]}
    """)
    edges = [(edge["from"], edge["to"], edge["kind"], edge["label"]) for edge in drawing.data(made)["edges"]]  # type: ignore[attr-defined]
    assert edges == [
        ("a", "b", "continues", "with its last 3 s"),
        ("a", "c", "frame", "clip as a reference"),
        ("b", "d", "frame", "last 4 s as a reference"),
    ]


def test_dot_quotes_every_text() -> None:
    text = drawing.dot([film(LOOP)])
    assert '  label="Harbour <Dawn> & \\"end\\" `x` (film)";\n' in text
    assert '  "dawn" [label="dawn\\n5 s · hiapi · 1080p"];\n' in text
    assert '  "dawn" -> "harbour" [style=solid];\n' in text
    assert '  "dawn" -> "end" [style=dashed, label="first frame as last_frame"];\n' in text
    assert '  "harbour" -> "market" [style=dotted, arrowhead=none, constraint=false, label="meets"];\n' in text


def test_svg_shows_shots_and_lines_of_each_kind_and_nothing_overlaps() -> None:
    made = film(LOOP)
    text = drawing.svg([made])
    root = ET.fromstring(text)
    words = [element.text for element in root.iter(f"{NAME}text")]
    assert {"dawn", "harbour", "7 s · hiapi · 1080p", "a clip of one's own"} <= set(words)
    assert words[0] == 'Harbour <Dawn> & "end" `x` (film)'
    kinds = [path.get("class") for path in root.iter(f"{NAME}path")]
    assert (kinds.count("continues"), kinds.count("frame"), kinds.count("meets")) == (5, 2, 3)  # one each in the legend
    nothing_overlaps(made)
    assert drawing.svg([made]) == text


def test_every_film_of_a_matrix_is_in_the_drawing() -> None:
    one = film(LOOP)
    films = [replace(one, variant=name) for name in ("en", "de")]
    text = drawing.mermaid(films)
    assert text.count("\n  subgraph ") == text.count("\n  end\n") == 2
    assert "subgraph f1 [\"Harbour <Dawn> & 'end' 'x' (film [de])\"]\n" in text
    assert "\n    f0s0 --> f0s1\n" in text
    assert "\n    f1s0 --> f1s1\n" in text
    text = drawing.dot(films)
    assert text.count("\n  subgraph cluster_") == 2
    assert '    "de/dawn" -> "de/harbour" [style=solid];\n' in text
    root = ET.fromstring(drawing.svg(films))
    alone = ET.fromstring(drawing.svg([one]))
    assert len(root.findall(f"{NAME}g")) == 2
    assert len(boxes(drawing.svg(films))) == 16
    assert float(root.get("height") or 0) == 2 * float(alone.get("height") or 0)
    assert len({element.get("id") for element in root.iter() if element.get("id")}) == 1  # the arrow's tip, once


def test_a_title_with_control_characters_stays_a_drawing() -> None:
    shots = 'shots: [{id: a, prompt: x, title: "</title>\\x07"}]'
    made = film(f'klingflow: 1\ntitle: "a\\x1b[31m\\nb\\u202e]]>"\n{shots}\n')
    words = [element.text for element in ET.fromstring(drawing.svg([made])).iter(f"{NAME}text")]
    assert words[0] == "a\\x1b[31m b\\u202e]]> (film)"
    assert "\x1b" not in drawing.dot([made]) + drawing.mermaid([made])
    assert drawing.mermaid([made]).count("\n---\n") == 1


def test_a_crowded_film_is_drawn_without_overlaps() -> None:
    lines = ["klingflow: 1", "shots:", "  - {id: s0, prompt: x}"]
    for i in range(1, 60):
        closing = f", last_frame: {{shot: s{i // 3}, frame: first}}" if i % 4 == 0 and i // 3 != i // 2 else ""
        lines.append(f"  - {{id: s{i}, continues: s{i // 2}{closing}}}")
    nothing_overlaps(film("\n".join([*lines, ""])))


def test_a_long_film_is_drawn_soon() -> None:
    lines = [f"  - {{id: s{i}, prompt: x{f', continues: s{i - 1}' if i % 40 else ''}}}" for i in range(1200)]
    made = film("\n".join(["klingflow: 1", "shots:", *lines, ""]))
    start = time.process_time()
    assert drawing.svg([made]).count("<rect") == 1201
    assert time.process_time() - start < 3
