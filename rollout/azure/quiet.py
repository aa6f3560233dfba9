"""azure-ai-ml without noise: it prints to stderr by itself and logs every request; a daemon's output is its own.

The rule: what the SDKs have to say goes into the standard logging tree, from WARNING up, and nowhere else. Progress dots
on stdout come only from pollers, which we never use.
"""

import importlib
import logging
import warnings
from types import ModuleType

_AZURE_ML = "azure.ai.ml"


def import_azure_ml() -> ModuleType:
    """The module `azure.ai.ml`: four seconds the first time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own classes, against the marshmallow it asks for
        module = importlib.import_module(_AZURE_ML)
    hush()
    return module


def hush() -> None:
    """Take away the stderr handlers that azure-ai-ml gives its loggers, and the SDKs' line per request."""
    azure = logging.getLogger("azure")
    if azure.level == logging.NOTSET:
        azure.setLevel(logging.WARNING)
    for name in list(logging.root.manager.loggerDict):
        if name == _AZURE_ML or name.startswith(f"{_AZURE_ML}."):
            logger = logging.getLogger(name)
            logger.handlers = [handler for handler in logger.handlers if type(handler) is not logging.StreamHandler]
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
