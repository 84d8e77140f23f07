"""`python -m klingflow` is the `klingflow` command."""

from klingflow.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
