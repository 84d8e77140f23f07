"""`klingflow completion`: what a shell reads to complete commands, options and files."""

from __future__ import annotations

import sys

import shtab

import klingflow
from klingflow.cli import app
from klingflow.core.errors import DONE


def completion(shell: str) -> int:
    parser = app.parser()
    for command in app.parsers(parser).values():
        for action in command._actions:
            if action.metavar in ("PATH", "FILE") or action.dest == "folder":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if action.dest == "provider":
                action.choices = klingflow.provider_names()
    sys.stdout.write(shtab.complete(parser, shell=shell))
    return DONE
