"""The `rollout` command: see `app.py` for the commands, `render.py` for how things look."""

from rollout.cli.app import main

__all__ = ["main"]
