"""How the candidate is judged against the stable: cells in, a verdict with its sentence out. Pure: numpy and math only."""
