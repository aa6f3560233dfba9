"""The daemon: settings in, traffic moved and judged until it is told to stop.

`process.py` starts and stops it, `site.py` reads settings and secrets, `wiring.py` makes the parts, `ticks.py` has
rollouts ticked, `jobs.py` does what is done again and again, `policies.py` keeps the policy files, `health.py` says how
it is. The rule: only this room knows all others; nothing imports it but the command line.
"""

from pathlib import Path


def run(config: Path) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 stopped, 1 could not go on, 2 settings that cannot be used."""
    from rollout.daemon.process import run_daemon

    return run_daemon(config)


__all__ = ["run"]
