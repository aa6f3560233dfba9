"""How the candidate is judged against the stable: cells in, a verdict with its sentence out.

The rule: pure; numpy and math only, no clock, no files, no network.
"""
