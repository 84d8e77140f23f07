"""The graph of each film as a drawing: Mermaid and DOT for other programs, SVG drawn here (Graphviz is not needed),
or as data.

A solid line is a clip that is continued, a dashed line another frame of a clip; both wait. A dotted line is a still
that two shots share (`meets`): nobody waits. Knows shots, not plans: a drawing is the same before and after a run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape

from klingflow.core.model import Film, Shot, ShotFrame, ShotId, ShotVideo
from klingflow.core.source import visible
from klingflow.planning import graph


class _Line(StrEnum):
    CONTINUES = "continues"
    FRAME = "frame"
    MEETS = "meets"


@dataclass(frozen=True, slots=True)
class _Edge:
    source: ShotId
    target: ShotId
    line: _Line
    label: str
    """What goes over, in words; empty for the last frame that begins the next shot."""


def _edges(film: Film) -> list[_Edge]:
    out = []
    for shot in film.shots:
        for role, frame in shot.frames():
            if not isinstance(frame, ShotFrame):
                continue
            name = "" if frame.frame == "last" else f"{frame.frame} frame" if frame.frame == "first" else frame.frame
            if role == "first_frame" and shot.meets is None:
                name = name if shot.motion_s is None else f"with its last {shot.motion_s} s"
                out.append(_Edge(frame.shot, shot.id, _Line.CONTINUES, name))
            else:
                out.append(_Edge(frame.shot, shot.id, _Line.FRAME, f"{name or 'last frame'} as {role}"))
        for video in shot.videos if shot.motion_s is None else shot.videos[:-1]:
            if isinstance(video, ShotVideo):
                part = "clip" if video.last_s is None else f"last {video.last_s} s"
                out.append(_Edge(video.shot, shot.id, _Line.FRAME, f"{part} as a reference"))
        if shot.meets is not None and not isinstance(shot.first_frame, ShotFrame):
            out.append(_Edge(shot.meets, shot.id, _Line.MEETS, "meets"))
    return out


def _about(shot: Shot) -> str:
    if shot.clip is not None:
        return "a clip of one's own"
    return f"{shot.duration} s · {shot.provider} · {shot.resolution}"


def _headline(film: Film) -> str:
    title = visible(film.title).replace("\n", " ")
    return title if film.title == film.name and not film.variant else f"{title} ({film.label})"


def data(film: Film) -> dict[str, object]:
    """The graph as data: every shot, and every edge with what goes over it ("meets" does not wait)."""
    shots = [
        {"shot": shot.id, "provider": shot.provider, "seconds": shot.duration, "resolution": shot.resolution}
        if shot.clip is None
        else {"shot": shot.id, "provider": None, "seconds": None, "resolution": None}
        for shot in film.shots
    ]
    edges = [
        {"from": edge.source, "to": edge.target, "kind": edge.line.value, "label": edge.label} for edge in _edges(film)
    ]
    return {"film": film.label, "variant": film.variant, "title": film.title, "shots": shots, "edges": edges}


def mermaid(films: Sequence[Film]) -> str:
    """A Mermaid flowchart, for Markdown that is shown on GitHub or GitLab; several films are subgraphs of one."""
    several = len(films) > 1
    out = ["---", f"title: {_mermaid_text(films[0].name if several else _headline(films[0]))}", "---", "flowchart LR"]
    for number, film in enumerate(films):
        of_film = f"f{number}" if several else ""
        name = {shot.id: f"{of_film}s{i}" for i, shot in enumerate(film.shots)}  # an id such as `end` is Mermaid's own
        lines = [f'{name[shot.id]}["{shot.id}<br/>{_about(shot)}"]' for shot in film.shots]
        for edge in _edges(film):
            label = f'|"{edge.label}"|' if edge.label else ""
            arrow = {_Line.CONTINUES: "-->", _Line.FRAME: "-.->", _Line.MEETS: "-.-"}[edge.line]
            lines.append(f"{name[edge.source]} {arrow}{label} {name[edge.target]}")
        if several:
            title = _mermaid_text(_headline(film).replace('"', "'"))
            lines = [f"subgraph {of_film} [{title}]", "  direction LR", *(f"  {line}" for line in lines), "end"]
        out += [f"  {line}" for line in lines]
    return "\n".join(out) + "\n"


def _mermaid_text(text: str) -> str:
    return json.dumps(text.replace("`", "'"))


def dot(films: Sequence[Film]) -> str:
    """A directed graph in DOT, for Graphviz; several films are clusters of one."""
    several = len(films) > 1
    out = [
        "digraph film {",
        "  rankdir=LR;",
        f"  label={_quoted(films[0].name if several else _headline(films[0]))};",
        '  node [shape=box, style="rounded", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for number, film in enumerate(films):
        of_film = f"{film.variant}/" if several else ""
        lines = []
        for shot in film.shots:
            label = f"{_quoted(shot.id)[:-1]}\\n{_quoted(_about(shot))[1:]}"
            lines.append(f"{_quoted(of_film + shot.id)} [label={label}];")
        for edge in _edges(film):
            style = {
                _Line.CONTINUES: "style=solid",
                _Line.FRAME: "style=dashed",
                _Line.MEETS: "style=dotted, arrowhead=none, constraint=false",
            }[edge.line]
            label = f", label={_quoted(edge.label)}" if edge.label else ""
            ends = f"{_quoted(of_film + edge.source)} -> {_quoted(of_film + edge.target)}"
            lines.append(f"{ends} [{style}{label}];")
        if several:
            head = [f"subgraph cluster_{number} {{", f"  label={_quoted(_headline(film))};"]
            lines = [*head, *(f"  {line}" for line in lines), "}"]
        out += [f"  {line}" for line in lines]
    return "\n".join([*out, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# SVG: shots in columns by what they wait for, then rows, then lines that pass between the boxes.

_HIGH = 54
"""A box, in pixels."""
_ROW_GAP = 26
_COLUMN_GAP = 84
_LANE = 10
"""The height that a line takes where it passes a column."""
_MARGIN = 28
_HEAD = 46
_LETTER = 7.9
"""Width of a letter of an id, generously: the reader's sans-serif face is not known."""
_MOST_LANES = 30_000
"""A film with more lines past columns is drawn with straight ones: thousands of lines are not readable."""


@dataclass(slots=True)
class _Spot:
    """A shot, or the lane of a line through one column."""

    shot: Shot | None
    column: int
    high: int
    y: float = 0.0
    """Its middle."""
    before: list[_Spot] = field(default_factory=list)
    after: list[_Spot] = field(default_factory=list)


def svg(films: Sequence[Film]) -> str:
    """The graphs as an SVG image, one below the other. Needs no other program; the same films are the same text."""
    drawn = [_drawn(film) for film in films]
    across, height = max(wide for wide, _, _ in drawn), sum(high for _, high, _ in drawn)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{across:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {across:.0f} {height:.0f}" font-family="system-ui, Helvetica, Arial, sans-serif">',
        f"<title>{escape(_short(_headline(films[0]) if len(films) == 1 else films[0].name, 90))}</title>",
        _STYLE,
        f'<rect class="paper" width="{across:.0f}" height="{height:.0f}"/>',
    ]
    y = 0.0
    for _, high, lines in drawn:
        out += lines if len(drawn) == 1 else [f'<g transform="translate(0 {y:.0f})">', *lines, "</g>"]
        y += high
    return "\n".join([*out, "</svg>"]) + "\n"


def _drawn(film: Film) -> tuple[float, float, list[str]]:
    """One film's drawing: its width, its height, its elements."""
    edges = _edges(film)
    columns, ways = _placed(film, edges)
    _rows(columns)
    longest = max((len(_short(shot.id)) for shot in film.shots), default=0)
    about = max((len(_about(shot)) for shot in film.shots), default=0)
    wide = round(max(longest * _LETTER, about * 6.3) + 28)
    step = wide + _COLUMN_GAP
    top = min((spot.y - spot.high / 2 for column in columns for spot in column), default=0.0)
    bottom = max((spot.y + spot.high / 2 for column in columns for spot in column), default=0.0)
    down = _MARGIN + _HEAD - top
    kinds = [line for line in _Line if any(edge.line is line for edge in edges)]
    legend = sum(44 + len(_LEGEND[line]) * 6.4 + 24 for line in kinds)
    heading = _short(_headline(film), 90)
    across = max(len(columns) * step - _COLUMN_GAP, legend, len(heading) * 9.2) + 2 * _MARGIN
    height = down + bottom + _MARGIN + (34 if kinds else 0)

    def left(spot: _Spot) -> float:
        return _MARGIN + spot.column * step

    out = [f'<text class="head" x="{_MARGIN}" y="{_MARGIN + 10}">{escape(heading)}</text>']
    ports = _ports(edges, ways)
    for i, (edge, way) in enumerate(zip(edges, ways, strict=True)):
        leave, arrive = ports[i]
        if _back(way):
            under = [(left(spot) + wide / 2, spot.y + _HIGH / 2 + down) for spot in (way[0], way[-1])]
            drawn = _under(*under)
        else:
            points = [(left(way[0]) + wide, way[0].y + leave + down)]
            for lane in way[1:-1]:
                points += [(left(lane), lane.y + down), (left(lane) + wide, lane.y + down)]
            drawn = _curve([*points, (left(way[-1]), way[-1].y + arrive + down)])
        text = escape(f"{edge.source} to {edge.target}: {edge.label or 'continues'}")
        out.append(f'<path class="{edge.line}" d="{drawn}"{_ARROW[edge.line]}><title>{text}</title></path>')
    for column in columns:
        for spot in column:
            if spot.shot is not None:
                out.append(_box(spot.shot, left(spot), spot.y - _HIGH / 2 + down, wide))
    x = float(_MARGIN)
    for line in kinds:
        y = height - _MARGIN
        out.append(f'<path class="{line}" d="M{x:.0f} {y:.0f}h36"{_ARROW[line]}/>')
        out.append(f'<text class="about" x="{x + 44:.0f}" y="{y + 4:.0f}">{_LEGEND[line]}</text>')
        x += 44 + len(_LEGEND[line]) * 6.4 + 24
    return across, height, out


_LEGEND: Mapping[_Line, str] = {
    _Line.CONTINUES: "continues (waits)",
    _Line.FRAME: "uses another frame (waits)",
    _Line.MEETS: "meets a still (does not wait)",
}
_ARROW: Mapping[_Line, str] = {
    _Line.CONTINUES: ' marker-end="url(#tip)"',
    _Line.FRAME: ' marker-end="url(#tip)"',
    _Line.MEETS: "",
}
_STYLE = """\
<style>
.paper{fill:#fff}.head{font-size:17px;font-weight:600;fill:#1f2933}
.box{fill:#f5f7fa;stroke:#52606d;stroke-width:1.4}.own{fill:#fff8e6;stroke:#b7791f}
.id{font-size:14px;font-weight:600;fill:#1f2933}.about{font-size:11.5px;fill:#52606d}
.continues,.frame,.meets{fill:none;stroke:#3e4c59;stroke-width:1.6}
.frame{stroke-dasharray:7 5}.meets{stroke:#829ab1;stroke-dasharray:1.6 4.5;stroke-width:2;stroke-linecap:round}
.tip{fill:#3e4c59}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="9" markerHeight="9"
 markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0.5 8 4 0 7.5z"/></marker></defs>"""


def _short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _box(shot: Shot, x: float, y: float, wide: int) -> str:
    kind = "box own" if shot.clip is not None else "box"
    text = escape(f"{shot.id}: {visible(shot.title)}" if shot.title else shot.id)
    return (
        f"<g><title>{text}</title>"
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide}" height="{_HIGH}" rx="10"/>'
        f'<text class="id" x="{x + 14:.1f}" y="{y + 23:.1f}">{escape(_short(shot.id))}</text>'
        f'<text class="about" x="{x + 14:.1f}" y="{y + 41:.1f}">{escape(_about(shot))}</text></g>'
    )


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A line through pairs of points: curved between columns, level through a lane."""
    out = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for i in range(1, len(points)):
        (x0, y0), (x1, y1) = points[i - 1], points[i]
        bend = (x1 - x0) / 2
        if i % 2 == 0:
            out.append(f"H{x1:.1f}")
        else:
            out.append(f"C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}")
    return "".join(out)


def _back(way: Sequence[_Spot]) -> bool:
    """Whether a line goes to its own column or back: a shot may meet a still of one that comes after it."""
    return way[-1].column <= way[0].column


def _under(source: tuple[float, float], target: tuple[float, float]) -> str:
    """A line back, from below one box to below the other."""
    (x0, y0), (x1, y1) = source, target
    low = max(y0, y1) + 24
    return f"M{x0:.1f} {y0:.1f}C{x0:.1f} {low:.1f} {x1:.1f} {low:.1f} {x1:.1f} {y1:.1f}"


def _placed(film: Film, edges: Sequence[_Edge]) -> tuple[list[list[_Spot]], list[list[_Spot]]]:
    """The spots column by column, and for each edge the spots on its way."""
    rank = {shot.id: i for i, shot in enumerate(graph.order(film))}
    ahead = [edge for edge in edges if rank[edge.source] < rank[edge.target]]  # a meets may point back
    column: dict[ShotId, int] = dict.fromkeys(rank, 0)
    coming: dict[ShotId, list[ShotId]] = {}
    for edge in ahead:
        coming.setdefault(edge.target, []).append(edge.source)
    for name in rank:  # in order
        column[name] = max((column[source] + 1 for source in coming.get(name, ())), default=0)
    spots = {shot.id: _Spot(shot, column[shot.id], _HIGH) for shot in film.shots}
    columns: list[list[_Spot]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for shot in film.shots:
        columns[column[shot.id]].append(spots[shot.id])
    lanes = sum(max(0, column[edge.target] - column[edge.source] - 1) for edge in ahead)
    ways = []
    for edge in edges:
        way = [spots[edge.source]]
        if lanes <= _MOST_LANES:
            for between in range(column[edge.source] + 1, column[edge.target]):
                lane = _Spot(None, between, _LANE)
                columns[between].append(lane)
                way.append(lane)
        way.append(spots[edge.target])
        if way[1].column == way[0].column + 1:
            for one, other in itertools.pairwise(way):
                one.after.append(other)
                other.before.append(one)
        ways.append(way)
    return columns, ways


def _rows(columns: list[list[_Spot]]) -> None:
    """Orders each column so that few lines cross, and sets every spot level with its neighbours where there is room."""
    for column in columns:
        _stack(column)
    for sweep in range(9):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            pull = {id(spot): _pull(spot.before if forward else spot.after, spot.y) for spot in column}
            column.sort(key=lambda spot: pull[id(spot)])
            _stack(column)
    for sweep in range(5):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            _level(column, [_pull(spot.before if forward else spot.after, spot.y) for spot in column])


def _pull(neighbours: Sequence[_Spot], here: float) -> float:
    return sum(spot.y for spot in neighbours) / len(neighbours) if neighbours else here


def _apart(upper: _Spot, lower: _Spot) -> float:
    return (upper.high + lower.high) / 2 + (_ROW_GAP if upper.shot and lower.shot else _ROW_GAP / 1.5)


def _stack(column: list[_Spot]) -> None:
    """The column's spots one below the other, their middle at 0."""
    y = 0.0
    for i, spot in enumerate(column):
        y += _apart(column[i - 1], spot) if i else 0.0
        spot.y = y
    for spot in column:
        spot.y -= y / 2


def _level(column: list[_Spot], wanted: Sequence[float]) -> None:
    """Every spot as near as can be to where it is wanted, in order and apart (least squares by pooling neighbours)."""
    offset, offsets = 0.0, []
    for i, spot in enumerate(column):
        offset += _apart(column[i - 1], spot) if i else 0.0
        offsets.append(offset)
    blocks: list[tuple[float, int]] = []  # sum, count
    for want, away in zip(wanted, offsets, strict=True):
        block = (want - away, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            total, count = blocks.pop()
            block = (total + block[0], count + block[1])
        blocks.append(block)
    spread = [total / count for total, count in blocks for _ in range(count)]
    for spot, base, away in zip(column, spread, offsets, strict=True):
        spot.y = base + away


def _ports(edges: Sequence[_Edge], ways: Sequence[Sequence[_Spot]]) -> list[tuple[float, float]]:
    """Where each line leaves and reaches its boxes, above or below their middles, so that no two share a place."""
    leaving: dict[ShotId, list[int]] = {}
    reaching: dict[ShotId, list[int]] = {}
    for i, edge in enumerate(edges):
        if not _back(ways[i]):
            leaving.setdefault(edge.source, []).append(i)
            reaching.setdefault(edge.target, []).append(i)
    out = [[0.0, 0.0] for _ in edges]

    def spread(groups: Mapping[ShotId, list[int]], side: int, height: Callable[[int], float]) -> None:
        for members in groups.values():
            gap = min(12.0, (_HIGH - 16) / max(1, len(members) - 1))
            for k, i in enumerate(sorted(members, key=height)):
                out[i][side] = (k - (len(members) - 1) / 2) * gap

    spread(leaving, 0, lambda i: ways[i][1].y)
    spread(reaching, 1, lambda i: ways[i][-2].y)
    return [(leave, arrive) for leave, arrive in out]
