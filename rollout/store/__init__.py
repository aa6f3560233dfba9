"""The store: rollouts, history, commands, cells and outgoing alerts, in one SQLite file.

`sql_store.py` is the front; behind it `rollouts.py` (with leases), `commands.py`, `cells.py` (with `reading.py` and
`packing.py`) and `outbox.py`; below them `tables.py`, `codec.py` and `database.py`; `migrations/` lead old files here.
The rule: what a method of `ports.Store` has returned from is on the disk; times are arguments, never the machine's.
"""

from rollout.store.sql_store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
