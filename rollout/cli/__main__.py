"""`python -m rollout.cli`: the console script where nothing is installed."""

from rollout.cli import main

main()
