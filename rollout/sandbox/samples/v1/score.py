"""Recommender, version 1: the restaurants that are most like those a diner liked."""

import json
import os
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

_pause = Event()
_model: dict[str, Any] = {}


def init() -> None:
    """Read the model: restaurants and what they are like, as vectors."""
    text = (Path(os.environ["AZUREML_MODEL_DIR"]) / "recommender.json").read_text(encoding="utf-8")
    _model.update(json.loads(text))
    _model["vectors"] = np.array(_model["vectors"])
    _model["chance"] = np.random.default_rng(1)


def run(raw: str) -> dict[str, Any]:
    """`{"diner": …, "visits": [{"restaurant": name, "stars": 1–5}, …], "count": n}` -> the n best, with scores."""
    request = json.loads(raw)
    names, vectors = _model["names"], _model["vectors"]
    taste = np.array(_model["popular"])
    for visit in request.get("visits", []):
        taste = taste + (visit["stars"] - 3) * vectors[names.index(visit["restaurant"])]
    scores = vectors @ taste
    best = np.argsort(-scores)[: request.get("count", 3)]
    _pause.wait(0.009 + _model["chance"].exponential(0.003))  # stands for a larger model's work
    return {"recommendations": [{"restaurant": names[i], "score": round(float(scores[i]), 3)} for i in best]}
