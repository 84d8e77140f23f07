"""The command line: parses it, calls the one command, turns every error into a message and an exit code.

A command is a module of klingflow.cli with a function of its name; only the one that is called is imported, so that
`--version` and `check` start without the media and network libraries that `run` needs.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType

from klingflow import __version__

TYPE_CHECKING = False  # mypy alone reads what follows; `typing` itself would be loaded at every start
if TYPE_CHECKING:
    from typing import NoReturn

EXITS = """\
exit codes: 0 done; 1 a shot failed; 2 usage, storyboard or configuration is
wrong; 3 a bug in klingflow; 4 something is in doubt; 5 a limit or a missing
confirmation refused the spend; 6 --frozen or --exit-code: something would have
to be made; 7 detached, tasks are being made; 130 interrupted"""

SELECTING = """\
WHICH is words with a space (any of them) or a comma (all of them) between:
  dawn  mar*  '*'    a shot, shots by pattern, every shot
  dawn+  dawn+1      and what continues it: all of it, or so many steps
  +market  2+market  and what it waits for: all of it, or so many steps
  tag:night          shots with a tag
  state:changed      with --against: new, changed, unknown, modified (all of
                     these), renamed, removed, unchanged
"""

EXAMPLES = {
    "init": ("klingflow init my-film",),
    "check": ("klingflow check .", "klingflow check film.yaml --format github"),
    "plan": (
        "klingflow plan",
        "klingflow plan film.yaml --select 'dawn+ tag:night'",
        "klingflow plan film.yaml --against origin/main --format markdown",
        "klingflow plan film.yaml --against origin/main --pictures review",
        "klingflow plan film.yaml -o plan.json",
    ),
    "run": (
        "klingflow run --provider animatic",
        "klingflow run film.yaml --max-spend 20",
        "klingflow run film.yaml --plan plan.json -y",
    ),
    "status": ("klingflow status film.yaml --json",),
    "resolve": (
        "klingflow resolve dawn --task ID",
        "klingflow resolve film.yaml dawn --not-bought",
    ),
    "take-in": (
        "klingflow take-in lamp.mp4 --as dawn",
        "klingflow take-in lamp.mp4 film.yaml --as dawn --cost 0.56",
    ),
    "takes": (
        "klingflow takes film.yaml",
        "klingflow takes film.yaml --open",
        "klingflow takes film.yaml --set dawn=3 --why 'the boat turns'",
    ),
    "film": ("klingflow film film.yaml", "klingflow film film.yaml --draft", "klingflow film film.yaml --sign"),
    "verify": ("klingflow verify out/film/film.mp4", "klingflow verify out/film/film.mp4 film.yaml"),
    "report": ("klingflow report", "klingflow report film.yaml --embed", "klingflow report --sheet sheet.pdf"),
    "seams": ("klingflow seams film.yaml", "klingflow seams film.yaml --json"),
    "open": ("klingflow open",),
    "export": ("klingflow export film.yaml", "klingflow export film.yaml --edl --fcpxml to-editor/film.fcpxml"),
    "import": ("klingflow import edited.otio film.yaml", "klingflow import edited.otio film.yaml --write"),
    "graph": ("klingflow graph film.yaml --format svg > film.svg",),
    "listen": ("klingflow listen film.yaml --listen 0.0.0.0:8477",),
    "doctor": ("klingflow doctor film.yaml",),
    "prices": ("klingflow prices", "klingflow prices --refresh && git diff klingflow.prices.yaml"),
    "farm": ("klingflow farm run films/*.yaml --max-spend 200", "klingflow farm status --page farm.html"),
    "worker": ("klingflow worker", "klingflow worker /srv/films --slots 16"),
    "store": (
        "klingflow store verify --from s3://studio-backup/klingflow",
        "klingflow store gc --keep main release/1",
        "klingflow store pull ../other/.klingflow/store",
    ),
    "cache": ("klingflow cache clear",),
    "schema": ("klingflow schema storyboard > storyboard.schema.json",),
    "completion": ("klingflow completion bash > ~/.local/share/bash-completion/completions/klingflow",),
}

COMMANDS = {
    "init": "write a project that runs at once",
    "check": "everything that is wrong with storyboards, at once; no network, no key",
    "plan": "what a run would make, reuse, adopt or hold, why, and for how much",
    "run": "make what the plan says, keep every clip, deliver the film",
    "status": "every task that was ever submitted for a storyboard",
    "resolve": "settle a shot that is in doubt, or whose delivered clip is not what was ordered",
    "take-in": "take in a clip that was made by hand, at a seller's console: it answers a shot as one that was bought",
    "takes": "the takes of each shot that the lock or the store knows; choose one, or a still",
    "film": "put the film together again from clips that are there; makes nothing new, buys nothing",
    "verify": "what a finished film says of how it was made; exit 1 where it is not signed, or was changed",
    "report": "write the page that shows the film: shots, seams, changes, money, where each clip comes from",
    "seams": "what an eye or an ear notices at the joins of the film: breaks of motion, light, colour and sound",
    "open": "show the finished film",
    "export": "write the film as a timeline for editing programs, with relinkable clips, handles and markers",
    "import": "show what an edited timeline changes in the storyboard's film.shots; --write changes it",
    "graph": "draw which shot waits for which",
    "listen": "receive callbacks and collect tasks of detached runs",
    "doctor": "check keys, endpoints, store, disk, clock and prices, and all that a run of storyboards needs",
    "prices": "show the prices that plans count with; --refresh reads HiAPI's list prices into klingflow.prices.yaml",
    "farm": "start storyboards on a farm of workers, or show what it does",
    "worker": "do the jobs of a farm, in this copy of the project, until it is stopped",
    "store": "verify the store's clips, frames and records; list, copy and tidy it",
    "cache": "show or clear what is remembered of files that were read before",
    "lock": "merge the locks of two branches that met; git calls it",
    "schema": "print the JSON Schema of one of klingflow's files",
    "completion": "print what a shell reads to complete commands and options",
}


_Help = partial(argparse.RawDescriptionHelpFormatter, width=80)
"""Help of one width, on a terminal, in CI and in the documents. (To learn the terminal's, argparse loads three
libraries of compression, at every start.)"""


class _Parser(argparse.ArgumentParser):
    """Tells what it cannot read as every other error is told: what, and what to type instead."""

    def error(self, message: str) -> NoReturn:
        what = message.removeprefix("argument ").replace("the following arguments are required:", "missing:")
        raise SystemExit(_wrong(f"{self.prog}: {what}", lambda hints: hints.for_value(message, self.prog)))


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; with `only`, the arguments of that command alone: those of all cost more than Python's
    own start."""
    top = _Parser(
        prog="klingflow",
        allow_abbrev=False,
        formatter_class=_Help,
        description="Terraform for AI film: storyboards in YAML, planned, bought once, kept by content.",
        epilog=f"klingflow help COMMAND: what a command takes, with examples\n\n{EXITS}",
    )
    top.add_argument("--version", action="version", version=f"klingflow {__version__}")
    commands = top.add_subparsers(prog="klingflow", dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        p = commands.add_parser(
            name, help=text, description=text, epilog=_epilog(name), formatter_class=_Help, allow_abbrev=False
        )
        if only is None or only == name:
            ARGUMENTS[name](p)
    return top


def parsers(top: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The commands of a whole command line."""
    found: argparse._SubParsersAction[argparse.ArgumentParser] = next(
        action for action in top._actions if isinstance(action, argparse._SubParsersAction)
    )
    return found.choices


def _epilog(name: str) -> str:
    shown = "".join(f"  {line}\n" for line in EXAMPLES.get(name, ()))
    parts = [f"examples:\n{shown}"] if shown else []
    parts += [SELECTING] if name in ("plan", "run") else []
    return "\n".join([*parts, EXITS])


def _init(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", nargs="?", default=".", help="where to write it (default: here)")
    p.add_argument("--name", default="film", help="the storyboard's name (default: film)")


def _check(p: argparse.ArgumentParser) -> None:
    p.add_argument("paths", nargs="*", metavar="PATH", help="storyboards, or folders that hold some (default: here)")
    _format(p, "text", "json", "github", "sarif")
    _vars(p)


def _plan(p: argparse.ArgumentParser) -> None:
    p.add_argument("paths", nargs="*", metavar="PATH", help="storyboards, or folders that hold some (default: here)")
    _vars(p)
    _provider(p)
    _select(p)
    _format(p, "text", "json", "markdown")
    p.add_argument("-o", "--out", metavar="FILE", help="save the plan, for `run --plan FILE`")
    p.add_argument("--against", metavar="GITREF", help="compare with the commit where this branch left that git ref")
    p.add_argument("--pictures", metavar="DIR", help="with --against: write a page and pictures of what changed")
    p.add_argument("--prompts", action="store_true", help="show every text as it is sent to the provider")
    p.add_argument("--exit-code", action="store_true", help="exit 6 when something would be made")


def _run(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _vars(p)
    _provider(p)
    _select(p)
    p.add_argument("--plan", metavar="FILE", help="run exactly this saved plan, or refuse")
    p.add_argument("-y", "--yes", action="store_true", help="spend without asking")
    p.add_argument("--max-spend", metavar="USD", help="refuse a run that would spend more")
    p.add_argument("--max-seconds", metavar="N", help="refuse a run that would make more seconds of clip")
    p.add_argument("--max-tasks", metavar="N", help="refuse a run that would submit more tasks")
    p.add_argument("--frozen", action="store_true", help="refuse to make anything new (exit 6)")
    p.add_argument("--detach", action="store_true", help="submit, and leave while tasks are being made (exit 7)")
    p.add_argument("--update-lock", action="store_true", help="with --var: write the lock all the same")
    p.add_argument("--listen", metavar="HOST:PORT", help="receive callbacks here while waiting")
    address = "the public https URL of --listen, or with --detach that of a receiver elsewhere"
    p.add_argument("--callback-url", metavar="URL", help=address)
    _format(p, "text", "json", help=_EVENTS)
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _status(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _format(p, "text", "json")


def _resolve(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    p.add_argument("shot", metavar="SHOT", help="the id of the shot")
    p.add_argument("--take", type=int, default=None, metavar="N", help="default: the take in doubt")
    p.add_argument("--key", default=None, metavar="KEY", help="tells two purchases of one take apart; status names it")
    said = p.add_mutually_exclusive_group(required=True)
    said.add_argument("--task", metavar="ID", help="the provider took the order: this is its task")
    said.add_argument("--not-bought", action="store_true", help="the provider did not take it; it may be bought again")
    said.add_argument("--accept", action="store_true", help="take the delivered clip as it is")
    said.add_argument("--reject", action="store_true", help="turn the delivered clip down; it may be bought again")
    p.add_argument("--force", action="store_true", help="also where the provider knows the task or a run may be asking")
    _format(p, "text", "json")


def _take_in(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", metavar="FILE", help="the clip")
    _storyboard(p)
    p.add_argument("--as", dest="shot", required=True, metavar="SHOT", help="the id of the shot; required")
    p.add_argument("--take", type=int, default=None, metavar="N", help="default: the take that counts")
    p.add_argument("--key", default=None, metavar="KEY", help="tells the films of a matrix apart; plan --json names it")
    p.add_argument("--cost", metavar="USD", help="what was paid for it (default: not known)")
    p.add_argument("--note", default="", metavar="TEXT", help="where it is from, for the record")
    p.add_argument("--force", action="store_true", help="also where its length is another one, or it is HDR")
    _vars(p)
    _provider(p)
    _format(p, "text", "json")


def _takes(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    chosen = "choose take N of a shot, or still N of a frame: dawn.first_frame=2"
    p.add_argument("--set", action="append", default=[], metavar="SHOT=N", help=chosen)
    p.add_argument("--why", metavar="TEXT", help="with --set: a note for the lock, beside who chose and when")
    p.add_argument("--open", action="store_true", help="a page of this machine alone, to look and choose on")
    p.add_argument("--port", type=int, metavar="N", help="with --open: the page's port (default: any that is free)")
    _format(p, "text", "json")


def _film(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    p.add_argument(
        "--draft", action="store_true", help="join what is there: stale shots as they are, cards for missing ones"
    )
    _vars(p)
    _provider(p)
    signing = "sign it: KLINGFLOW_SIGN_KEY and KLINGFLOW_SIGN_CERT name the PEM files of key and certificate"
    p.add_argument("--sign", action="store_true", help=signing)
    _format(p, "text", "json", help="json: one event a line on stdout; a draft's one document (default: text)")


def _verify(p: argparse.ArgumentParser) -> None:
    p.add_argument("film", metavar="FILM", help="the finished film, an MP4; nothing else of its project is needed")
    p.add_argument("path", nargs="?", metavar="PATH", help="a storyboard to compare with, and its lock (default: none)")
    _format(p, "text", "json")


def _report(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _vars(p)
    _provider(p)
    what = p.add_mutually_exclusive_group()
    what.add_argument("--embed", action="store_true", help="pictures and clips inside: one file that opens anywhere")
    what.add_argument("--sheet", metavar="FILE", help="write a contact sheet instead: sheet.pdf or sheet.png")
    _format(p, "text", "json")


def _export(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _vars(p)
    _provider(p)
    for name, what in (
        ("otio", "OpenTimelineIO, for Resolve, Premiere, Avid (the default)"),
        ("fcpxml", "Final Cut Pro XML, for Final Cut Pro and Resolve"),
        ("edl", "a CMX 3600 edit decision list, for every program"),
    ):
        where = f"{what}; FILE: where to write it (default: out/NAME/film.{name})"
        p.add_argument(f"--{name}", nargs="?", const="", metavar="FILE", help=where)
    _format(p, "text", "json")


def _import(p: argparse.ArgumentParser) -> None:
    p.add_argument("edited", metavar="EDITED", help="the edited timeline: .otio, .fcpxml or .edl")
    _storyboard(p)
    _vars(p)
    _provider(p)
    p.add_argument("--write", action="store_true", help="change the storyboard; without it, nothing is written")
    _format(p, "text", "json")


def _seams(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _vars(p)
    _provider(p)
    _format(p, "text", "json")


def _graph(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _vars(p)
    _format(p, "mermaid", "dot", "svg", "json")


def _listen(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    p.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8477", help="default: 127.0.0.1:8477")
    _format(p, "text", "json", help=_EVENTS)


def _doctor(p: argparse.ArgumentParser) -> None:
    p.add_argument("paths", nargs="*", metavar="PATH", help="storyboards, or folders of the project (default: here)")
    p.add_argument(
        "--paid-probe", action="store_true", help="prove with one cheap paid request that an order can be sent again"
    )
    p.add_argument("-y", "--yes", action="store_true", help="spend on the probe without asking")
    _format(p, "text", "json")


def _prices(p: argparse.ArgumentParser) -> None:
    p.add_argument("path", nargs="?", metavar="PATH", help="a storyboard, or a folder of the project (default: here)")
    p.add_argument("--refresh", action="store_true", help="read HiAPI's public list, and write it down with its date")
    _format(p, "text", "json")


def _store(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "words",
        nargs="*",
        metavar="WHAT",
        help="verify (the default), ls, show KEY, gc, push PLACE or pull PLACE; then a storyboard, or a folder of the "
        "project (default: here)",
    )
    p.add_argument("--from", dest="heal_from", metavar="PLACE", help="verify: mend from this other store")
    p.add_argument("--keep", nargs="+", metavar="REF", help="gc: keep what the locks of these git refs name")
    p.add_argument("--remove", action="store_true", help="gc: remove it; without, it is only shown")
    _format(p, "text", "json")


def _farm(p: argparse.ArgumentParser) -> None:
    p.add_argument("what", choices=("run", "status"), help="start storyboards and wait for them; or show the jobs")
    p.add_argument("paths", nargs="*", metavar="PATH", help="the storyboards; for status, the project (default: here)")
    _vars(p)
    _provider(p)
    p.add_argument("-y", "--yes", action="store_true", help="spend without asking")
    p.add_argument("--max-spend", metavar="USD", help="refuse where all of them would spend more")
    p.add_argument("--detach", action="store_true", help="leave while the farm is at work (exit 7)")
    p.add_argument("--page", metavar="FILE", help="status: write it as a page, too")
    _format(p, "text", "json", help="of status")


def _worker(p: argparse.ArgumentParser) -> None:
    p.add_argument("path", nargs="?", default=".", metavar="PATH", help="its copy of the project (default: here)")
    p.add_argument("--slots", metavar="N", help="jobs at once (default: 8)")
    _format(p, "text", "json", help="json: one line for what happens, on stdout")


def _lock(p: argparse.ArgumentParser) -> None:
    p.add_argument("what", choices=("merge",), help="as the merge driver of git")
    p.add_argument("base", metavar="BASE", help="the lock where the branches parted, perhaps empty")
    p.add_argument("ours", metavar="OURS", help="the lock here, which becomes the merged one")
    p.add_argument("theirs", metavar="THEIRS", help="the lock of the other branch")
    p.add_argument("path", nargs="?", metavar="PATH", help="its path in the repository, for messages")
    _format(p, "text", "json")


def _open(p: argparse.ArgumentParser) -> None:
    _storyboard(p)
    _format(p, "text", "json")


def _cache(p: argparse.ArgumentParser) -> None:
    p.add_argument("what", nargs="?", choices=("clear",), help="remove it; the next command reads the files anew")
    _format(p, "text", "json")


def _completion(p: argparse.ArgumentParser) -> None:
    p.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _schema(p: argparse.ArgumentParser) -> None:
    names = ("storyboard", "include", "project", "prices", "lock", "plan", "events", "answers", "seams")
    p.add_argument("name", choices=names)


def _storyboard(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "path", nargs="?", metavar="PATH", help="the storyboard, or the folder in which it lies alone (default: here)"
    )


_EVENTS = "json: one event a line on stdout (default: text)"


def _format(p: argparse.ArgumentParser, *names: str, help: str = "") -> None:
    p.add_argument("--format", choices=names, default=names[0], help=help or f"default: {names[0]}")
    p.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")


def _vars(p: argparse.ArgumentParser) -> None:
    p.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="override a variable")


def _provider(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--provider",
        metavar="NAME",
        help="override every shot's provider; animatic is a rehearsal and leaves the lock as it is",
    )


def _select(p: argparse.ArgumentParser) -> None:
    p.add_argument("--select", metavar="WHICH", help="only these shots: 'dawn+ tag:night +market state:changed'")
    p.add_argument("--exclude", metavar="WHICH", help="not these shots")


ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "init": _init,
    "check": _check,
    "plan": _plan,
    "run": _run,
    "status": _status,
    "resolve": _resolve,
    "take-in": _take_in,
    "takes": _takes,
    "film": _film,
    "verify": _verify,
    "report": _report,
    "seams": _seams,
    "open": _open,
    "export": _export,
    "import": _import,
    "graph": _graph,
    "listen": _listen,
    "doctor": _doctor,
    "prices": _prices,
    "farm": _farm,
    "worker": _worker,
    "store": _store,
    "cache": _cache,
    "lock": _lock,
    "schema": _schema,
    "completion": _completion,
}


_GOES_ON = ("run", "listen")
"""The commands that go on to their end, with their own exit code, when nobody can see any more what they show: what
was paid for is collected."""


_ASK = ("check", "plan")
"""The commands that ask the disk, show what they find, and change nothing: what they showed may be shown again."""


def _command(name: str) -> Callable[..., int]:
    """The function of that name. Modules stay until the end: that the garbage collector looks at none of them, now or
    later, saves a tenth of a short command's time."""
    gc.disable()
    name = {"import": "import_"}.get(name, name.replace("-", "_"))
    command: Callable[..., int] = getattr(importlib.import_module(f"klingflow.cli.{name}"), name)
    gc.freeze()
    gc.enable()
    return command


def _wrong(what: str, mend: Callable[[ModuleType], str]) -> int:
    """Says what cannot be read on the command line, and what to type instead."""
    from klingflow.cli import hints  # nobody who types it right waits for it
    from klingflow.core.source import visible

    print(f"{visible(what)}\nmend: {visible(mend(hints))}", file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # UTF-8 as every file that we write, in every locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "help":
        words = [*words[1:2], "--help"]
    asks = bool(words) and words[0] in _ASK
    if asks:
        from klingflow.output import shown

        code = shown.again(words)
        if code is not None:
            return code
    named = next((word for word in words if not word.startswith("-")), "")
    if named and named not in COMMANDS:
        return _wrong(f"there is no command '{named}'", lambda hints: hints.for_command(named, tuple(COMMANDS)))
    read, unknown = parser(named).parse_known_args(words)
    if words[:1] == [named] and any(not word.startswith("-") for word in unknown):  # paths before and behind options
        read, unknown = parsers(parser(named))[named].parse_known_intermixed_args(words[1:])
        read.command = named
    if unknown:
        p = argparse.ArgumentParser(add_help=False)
        ARGUMENTS[named](p)
        options = [option for action in p._actions for option in action.option_strings]
        what = f"klingflow {named} has no option {unknown[0]}"
        if not unknown[0].startswith("-"):
            what = f"'{unknown[0]}' is one argument too many for klingflow {named}"
        return _wrong(what, lambda hints: hints.for_option(unknown[0], options, named))
    arguments = vars(read)
    name = arguments.pop("command")
    from klingflow.cli import streams  # after parsing: `--version` and `--help` need neither these nor the error tree
    from klingflow.cli.error_report import report

    streams.open_all()
    sys.stderr = streams.steady(sys.stderr)
    if name in _GOES_ON:
        sys.stdout = streams.steady(sys.stdout)

    try:
        command = partial(_command(name), **arguments)
        with suppress(ValueError):  # in a thread signals cannot be received
            # CI systems and service managers end a command so. Not before: an import may swallow the exception.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        code = shown.noted(words, command) if asks else command()
        sys.stdout.flush()
        gc.freeze()  # the process ends: what is left is not worth a search
        return code
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and name not in _GOES_ON:
            # The reader of our output went away, and wants no more of it: not an error of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return report(error)
