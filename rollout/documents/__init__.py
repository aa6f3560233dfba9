"""Documents: from the text of a YAML file to plain values that know where they stand.

`text.py` reads YAML and remembers the line and column of every path, `units.py` reads durations, shares and increases,
`mistakes.py` tells in plain English what does not fit. The rule: every mistake of a file is told at once, each with its
place, the value and what to write instead; no other exception leaves this room than the one that carries them.
"""
