"""Rollouts, events, exhibits, commands and alerts as JSON documents.

The rule: a document names its format; the one before the newest stays readable, through `UPGRADES`; one from a newer
version is refused, never guessed at. Floats come back bit by bit.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rollout.analysis.exhibits import Exhibit
from rollout.analysis.verdict import Judgement
from rollout.errors import RefusedError
from rollout.lifecycle.releases import Release
from rollout.lifecycle.rollout import Rollout
from rollout.world import Alert, Command, Event

#: The format that this version writes.
FORMAT = 1

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

#: From a format to the next one: the JSON value of a rollout's document, changed.
UPGRADES: Mapping[int, Upgrade] = {}

_ROLLOUT = TypeAdapter(Rollout)
_EVENT = TypeAdapter(Event)
_COMMAND = TypeAdapter(Command)
_ALERT = TypeAdapter(Alert)
_EXHIBIT = TypeAdapter(Exhibit)
_RELEASE = TypeAdapter(Release)


def dump_rollout(rollout: Rollout) -> str:
    """A rollout as JSON; the judgement is written by its own `dump`, which knows its version."""
    judgement = rollout.judgement.dump() if rollout.judgement else None
    body = _ROLLOUT.dump_json(replace(rollout, judgement=None)).decode()
    return f'{{"format":{FORMAT},"judgement":{json.dumps(judgement)},"rollout":{body}}}'


def load_rollout(doc: str, *, name: str, upgrades: Mapping[int, Upgrade] = UPGRADES, newest: int = FORMAT) -> Rollout:
    """What `dump_rollout` wrote, in this or the format before. `name` is the rollout's id, for the error.

    Raises RefusedError where the document cannot be read.
    """
    try:
        value = _upgraded(json.loads(doc), name=name, upgrades=upgrades, newest=newest)
        rollout = _ROLLOUT.validate_json(json.dumps(value["rollout"]))
        text = value["judgement"]
        return replace(rollout, judgement=Judgement.load(text) if text is not None else None)
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"Rollout {name} in the store cannot be read ({_first_line(error)}): go back to the version of Rollout"
            " that wrote it and let it end there, or restore a backup of the store."
        ) from error


def _upgraded(value: dict[str, Any], *, name: str, upgrades: Mapping[int, Upgrade], newest: int) -> dict[str, Any]:
    found = int(value["format"])
    if found > newest:
        raise RefusedError(
            f"Rollout {name} was saved by a newer version of Rollout (format {found}, this version reads up to {newest}):"
            " upgrade this installation."
        )
    for number in range(found, newest):
        value = upgrades[number](value)
    return value


def dump_release(release: Release) -> str:
    """A release as JSON."""
    return f'{{"format":{FORMAT},"release":{_RELEASE.dump_json(release).decode()}}}'


def load_release(doc: str, *, name: str) -> Release:
    """What `dump_release` wrote. Raises RefusedError where the document cannot be read."""
    try:
        return _RELEASE.validate_json(json.dumps(json.loads(doc)["release"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"Release {name} in the store cannot be read ({_first_line(error)}): go back to the version of Rollout that "
            "wrote it and let it end there."
        ) from error


def dump_event(event: Event) -> str:
    """An event as JSON."""
    return _EVENT.dump_json(event).decode()


def load_event(doc: str) -> Event:
    """What `dump_event` wrote."""
    return _EVENT.validate_json(doc)


def dump_command(command: Command) -> str:
    """A command as JSON."""
    return _COMMAND.dump_json(command).decode()


def load_command(doc: str) -> Command:
    """What `dump_command` wrote."""
    return _COMMAND.validate_json(doc)


def dump_alert(alert: Alert) -> str:
    """An alert as JSON."""
    return _ALERT.dump_json(alert).decode()


def load_alert(doc: str) -> Alert:
    """What `dump_alert` wrote."""
    return _ALERT.validate_json(doc)


def dump_exhibit(exhibit: Exhibit) -> bytes:
    """An exhibit as deflated JSON: a look repeats much of itself."""
    return zlib.compress(_EXHIBIT.dump_json(exhibit))


def load_exhibit(doc: bytes) -> Exhibit:
    """What `dump_exhibit` wrote."""
    return _EXHIBIT.validate_json(zlib.decompress(doc))


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return f"{type(error).__name__}: {error}".splitlines()[0]
