"""The judgement: all that the judge remembers between two looks, as one frozen value.

The rule: it advances once, over closed blocks in their order (see `fold.py`), and survives JSON without losing a bit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

from rollout.analysis.evidence import NOTHING, Counts, Process

VERSION = 3


class CheckState(NamedTuple):
    """What is remembered of one check in one source."""

    process: Process = Process()
    bar: float | None = None  # latency: stable's quantile in ms, fixed once known
    usual: float | None = None  # stable's share of bad requests in the hour before, where it is known
    step: Counts = NOTHING  # this step's blocks
    over: Counts = NOTHING  # this step's blocks against the policy's `max`
    worst: Counts = NOTHING  # the one of them that is farthest above
    recent: tuple[Counts, ...] = ()  # the last few blocks
    excess: float = 0.0  # bad requests of the candidate beyond stable's rate, over the rollout
    run: Counts = (
        NOTHING  # the blocks since the evidence's change point, while it speaks for a fault; else the last block
    )
    run_baseline: Mapping[int, int] | None = None  # latency: the durations in them
    run_candidate: Mapping[int, int] | None = None
    half_bad: int = 0  # blocks in a row in which half of the candidate's requests were bad
    spread: float = 0.0  # the variance of `excess`, where the policy has a harm budget
    reported: tuple[Counts, ...] = ()  # of reported quantiles: this step's last blocks, 1 where one is above `max`


@dataclass(frozen=True, kw_only=True)
class SourceState:
    """What is remembered of one source."""

    through: int = -1  # minutes below this one were taken in; -1: none yet
    blocks: int = 0  # of the whole rollout
    step: int = -1
    since: int = -1  # of the step
    prove_from: int = -1  # the minute from which "not worse" is being shown
    step_blocks: int = 0
    step_minutes: int = 0  # also those in which only one of the two had requests
    step_baseline: int = 0  # requests in this step's minutes, also those in which the candidate got none
    step_candidate: int = 0
    baseline_durations: Mapping[int, int] = field(default_factory=dict)  # this step's good answers
    candidate_durations: Mapping[int, int] = field(default_factory=dict)
    baseline_measures: Mapping[str, Mapping[int, int]] = field(default_factory=dict)  # this step's, as far as asked for
    candidate_measures: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    latest: int = -1  # the last minute with any rows
    quiet_minutes: int = 0  # in a row in which stable had requests and the candidate none
    quiet_requests: int = 0  # stable's requests in them
    checks: Mapping[str, CheckState] = field(default_factory=dict)
    taken: Mapping[int, int] = field(default_factory=dict)  # recent minute -> requests taken in, to tell late rows
    late: int = 0


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the judge remembers of a rollout; make one with `verdict.begin`."""

    alpha: float
    version: int = VERSION
    sources: Mapping[str, SourceState] = field(default_factory=dict)
    #: source -> check -> the spread between minutes expected before any was seen, learned before; 0.3 where not known
    taus: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    resumed_at: float = 0.0  # the suspicion at which a retreat ended for its length alone; 0 once the suspicion is over

    def dump(self) -> str:
        """The judgement as JSON."""
        return json.dumps(_plain(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def load(cls, text: str) -> "Judgement":
        """What `dump` wrote, now or one version ago. Raises ValueError for what any other version of the judge wrote."""
        plain = json.loads(text)
        if plain.get("version") not in {VERSION, VERSION - 1}:
            raise ValueError(f"judgement of version {plain.get('version')}: this judge reads version {VERSION}")
        return cast("Judgement", _loaded(cls, {**plain, "version": VERSION}))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _loaded(kind: Any, plain: Any) -> Any:
    """`plain` as a value of the annotated type `kind`: dataclasses, named tuples, tuples, mappings, numbers, None.

    What an older version did not have yet keeps its default.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _loaded(hint, plain[name]) for name, hint in _hints(kind).items() if name in plain})
    if hasattr(kind, "_fields"):
        return kind(*(_loaded(hint, item) for hint, item in zip(_hints(kind).values(), plain, strict=False)))
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(_loaded(parts[0], item) for item in plain)
    if origin is Mapping:
        return {parts[0](key): _loaded(parts[1], item) for key, item in plain.items()}
    if origin is UnionType:
        return None if plain is None else _loaded(parts[0], plain)
    return kind(plain)
