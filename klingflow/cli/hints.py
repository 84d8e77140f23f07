"""What to type instead: for the words of other tools, and for slips of the pen. Loaded when something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from klingflow.core.source import nearest

COMMANDS = {
    **dict.fromkeys(("apply", "build", "make", "render", "generate", "up", "start", "resume"), "klingflow run"),
    **dict.fromkeys(("validate", "lint", "test"), "klingflow check"),
    **dict.fromkeys(("preview", "estimate", "cost", "price", "dry-run"), "klingflow plan"),
    "diff": "klingflow plan PATH --against origin/main",
    **dict.fromkeys(("show", "view", "play", "watch"), "klingflow open"),
    **dict.fromkeys(("clean", "clear", "gc", "prune"), "klingflow cache clear"),
    **dict.fromkeys(("new", "create"), "klingflow init"),
    **dict.fromkeys(("list", "ls", "tasks", "log", "logs", "state"), "klingflow status"),
    **dict.fromkeys(("join", "concat"), "klingflow film"),
    **dict.fromkeys(("refresh", "changes"), "klingflow plan"),
    **dict.fromkeys(("fmt", "format"), "klingflow check"),
    **dict.fromkeys(("adopt", "add"), "klingflow take-in"),
    **dict.fromkeys(("taint", "replace", "retake", "pick", "choose", "approve"), "klingflow takes"),
    **dict.fromkeys(("output", "outputs"), "klingflow open"),
    **dict.fromkeys(("env", "config", "info"), "klingflow doctor"),
    "merge": "klingflow lock merge",
    "version": "klingflow --version",
}
"""Commands of other tools."""

OPTIONS = {
    **dict.fromkeys(
        ("--dry-run", "--dryrun", "-n", "--check", "--preview"),
        "`klingflow plan` shows what a run would do; `klingflow run --provider animatic` rehearses it, free",
    ),
    **dict.fromkeys(("--target", "-target", "-t", "--only", "--shot", "--shots", "--filter"), "write --select WHICH"),
    **dict.fromkeys(("--skip", "--ignore"), "write --exclude WHICH"),
    **dict.fromkeys(("--auto-approve", "-auto-approve", "--approve", "--no-input", "--assume-yes"), "write --yes"),
    **dict.fromkeys(("--budget", "--limit", "--max-cost", "--max-price"), "write --max-spend USD"),
    **dict.fromkeys(("--base", "--diff", "--compare"), "write --against GITREF"),
    **dict.fromkeys(("--output", "-out", "--save"), "write --out FILE"),
    **dict.fromkeys(("--silent", "-s"), "write --quiet"),
    **dict.fromkeys(("--vars", "--set", "-var"), "write --var NAME=VALUE"),
    **dict.fromkeys(
        ("--force", "-f", "--replace", "--again", "--no-cache"),
        "a shot is made anew where it changes, or gets another `take` in the storyboard",
    ),
    **dict.fromkeys(
        ("--parallel", "--parallelism", "--jobs", "-j", "--concurrency"),
        "how many tasks are made at a time stands in klingflow.yaml: `providers: {NAME: {concurrency: 4}}`",
    ),
    **dict.fromkeys(("--no-color", "--no-colour", "--color"), "set NO_COLOR=1, or FORCE_COLOR=1, in the environment"),
    **dict.fromkeys(("--verbose", "-v", "--debug"), "plan --prompts shows all that is sent, run --json every event"),
}
"""Options of other tools."""


def for_command(word: str, commands: Sequence[str]) -> str:
    """What to type where there is no such command."""
    if word in COMMANDS:
        return f"write {COMMANDS[word]}"
    if word.endswith((".yaml", ".yml")):
        return f"say what is to be done with it: klingflow plan {word}"
    near = nearest(word, commands)
    return f"did you mean klingflow {near}?" if near else f"the commands are {', '.join(commands)}"


def for_option(word: str, known: Iterable[str], command: str) -> str:
    """What to type where a command has no such option, or argument."""
    name = word.partition("=")[0]
    known = [option for option in known if option.startswith("--")]
    if name in OPTIONS:
        option = OPTIONS[name].removeprefix("write ").split()[0]
        if not OPTIONS[name].startswith("write ") or option in known:
            return OPTIONS[name]
    beginnings = [option for option in known if name.startswith("--") and len(name) > 3 and option.startswith(name)]
    if len(beginnings) > 1:
        return f"write one of {', '.join(beginnings)}"
    near = beginnings[0] if beginnings else nearest(name, known)
    return f"did you mean {near}?" if near else f"klingflow {command} --help lists what it takes"


def for_value(message: str, command: str) -> str:
    """What to type where argparse cannot read the arguments; `message` is what it says."""
    wrong, _, choices = message.partition(" (choose from ")
    near = nearest(wrong.rpartition(": ")[2].strip("'"), [one.strip("'") for one in choices.rstrip(")").split(", ")])
    return f"did you mean {near}?" if choices and near else f"{command} --help shows what it takes, with examples"
