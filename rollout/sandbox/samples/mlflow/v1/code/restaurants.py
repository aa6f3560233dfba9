"""How much a diner will like a restaurant, from 0 to 5: a model of weights, in MLflow's form for Python functions."""

import json
from pathlib import Path
from typing import Any


class Restaurants:
    """`predict` takes a pandas DataFrame, or a list with one dictionary for each row."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self._weights = weights

    def predict(self, table: Any) -> list[float]:
        """One number for each row."""
        rows = table.to_dict("records") if hasattr(table, "to_dict") else table
        return [self._stars(row) for row in rows]

    def _stars(self, row: dict[str, Any]) -> float:
        weights = self._weights
        stars = weights["cuisines"].get(row["cuisine"], weights["other"])
        stars += weights["price"] * row["price"] + weights["distance"] * row["distance"]
        return round(min(5.0, max(0.0, stars)), 2)


def _load_pyfunc(path: str) -> Restaurants:
    """Called by MLflow with the model's `data` folder."""
    return Restaurants(json.loads((Path(path) / "weights.json").read_text(encoding="utf-8")))
