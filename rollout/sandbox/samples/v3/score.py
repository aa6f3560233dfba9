"""Recommender, version 3: weighs a diner's favourite kitchen. Wrong in a way that only live traffic shows.

Who has never been anywhere has no favourite: `max()` of nothing raises. The sample request has visits, so every test
before the rollout passed.
"""

import json
import os
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

_pause = Event()
_model: dict[str, Any] = {}


def init() -> None:
    """Read the model: restaurants and what they are like, as vectors of length 1."""
    text = (Path(os.environ["AZUREML_MODEL_DIR"]) / "recommender.json").read_text(encoding="utf-8")
    _model.update(json.loads(text))
    vectors = np.array(_model["vectors"])
    _model["vectors"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _model["chance"] = np.random.default_rng(3)


def run(raw: str) -> dict[str, Any]:
    """`{"diner": …, "visits": [{"restaurant": name, "stars": 1–5}, …], "count": n}` -> the n best, with scores."""
    request = json.loads(raw)
    names, vectors = _model["names"], _model["vectors"]
    favourite = max(request.get("visits", []), key=lambda visit: visit["stars"])
    taste = np.array(_model["popular"]) + 2 * vectors[names.index(favourite["restaurant"])]
    scores = vectors @ taste
    best = np.argsort(-scores)[: request.get("count", 3)]
    _pause.wait(0.007 + _model["chance"].exponential(0.002))  # stands for a larger model's work
    return {"recommendations": [{"restaurant": names[i], "score": round(float(scores[i]), 3)} for i in best]}
