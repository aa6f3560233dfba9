"""Looking at a workspace as `rollout doctor` does: what a rollout needs of Azure, read once, from where the daemon runs.

The rule: reads only, bounded in time and count, and one refusal never hides another fact: what cannot be read becomes an
`Unread` in its place, with its cause. `facts.py` is what was seen (plain values), `causes.py` why something was not,
`clients.py` what is asked with, `examiner.py` the order of things; the other files read one subject each. What it means is said
in `rollout.cli.doctor`.
"""
