"""Serves an MLflow model without a script of its own, as Azure does: `AZUREML_MODEL_DIR` names its folder.

The rule: the model is loaded as MLflow's `pyfunc` loads it, by the module that its `MLmodel` file names and from the code
that it brings along, and asked with `predict()`. Requests are MLflow's `input_data` (columns, index, data); the model gets a
pandas DataFrame where pandas is installed, else a list of one dictionary for each row. A request of another form is the
caller's mistake: 400.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from azureml.contrib.services.aml_response import AMLResponse

_model: dict[str, Any] = {}
HINT = 'Expected {"input_data": {"columns": [...], "index": [...], "data": [[...], ...]}}.'


def init() -> None:
    """Load the model."""
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    flavor = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"].get("python_function")
    if flavor is None:
        raise ValueError("the model has no flavor python_function, and no other is served without a scoring script")
    if flavor.get("code"):
        sys.path.insert(0, str(folder / flavor["code"]))
    try:
        loader = importlib.import_module(flavor["loader_module"])
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"sandbox: not modelled: installing the model's own requirements; {error.name} is not in this Python"
        ) from error
    _model["loaded"] = loader._load_pyfunc(str(folder / flavor["data"]) if flavor.get("data") else str(folder))


def run(raw: str) -> Any:
    """The model's answer, one item for each row."""
    try:
        rows = _rows(json.loads(raw))
    except (ValueError, LookupError, TypeError) as error:
        return AMLResponse(f"The request is not of the form that MLflow models take: {error}. {HINT}", 400)
    answer = _model["loaded"].predict(rows)
    return answer.tolist() if hasattr(answer, "tolist") else answer


def _rows(body: Any) -> Any:
    table = body["input_data"]
    columns, data = table["columns"], table["data"]
    if any(len(row) != len(columns) for row in data):
        raise ValueError("a row has another number of values than there are columns")
    try:
        import pandas
    except ImportError:
        return [dict(zip(columns, row, strict=True)) for row in data]
    return pandas.DataFrame(data, columns=columns, index=table.get("index"))
