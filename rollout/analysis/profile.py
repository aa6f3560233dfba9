"""The profile: an endpoint's traffic as a forecast needs it, from its last days or from what a person says of it.

The rule: nothing is assumed in silence: `days` is 0 where the numbers were not seen but given. Rates of requests are per
minute and by the hour of the day (UTC), rates of errors numbers from 0 to 1, durations a histogram of good answers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import erf, exp, log, sqrt

from rollout.analysis.cells import CLIENT_ERROR_CLASSES, ERROR_CLASSES, Cell, Histogram, edge, quantile, slower, timed
from rollout.analysis.checks import durations
from rollout.analysis.evidence import Counts, Noise
from rollout.analysis.noise import Spreads
from rollout.analysis.terms import Source

HOURS, HOUR, DAY = 24, 60, 24 * 60
USUAL_LAG = 10  # minutes after which a minute of the logs closes, until more is known
USUAL_ERRORS, USUAL_CLIENT_ERRORS, USUAL_P95 = 0.005, 0.01, 200.0  # of an endpoint of which nothing is said; p95 in ms
USUAL_TAU = 0.3  # what the judge expects, too (`evidence.Tuning`)
USUAL_LATENCY_TAU = 0.15  # about 3 % of noise in the durations of one minute
SIGMA = 0.5  # of the log durations of an endpoint of which only p95 is known
LEAST_REQUESTS = 100  # fewer make no profile
_Z95 = 1.6448536269514722
_GIVEN = 1_000_000  # requests in a histogram that is made up


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is known of an endpoint's traffic."""

    per_minute: tuple[float, ...]  # requests a minute, for each hour of the day (UTC)
    error_rate: float
    client_error_rate: float
    durations: Histogram  # of good answers
    tau: float  # spread of the errors between minutes (sd of a log-ratio); see `evidence.Noise`
    latency_tau: float  # … of slow answers
    lag: int = USUAL_LAG  # minutes after which a minute of the logs closes
    sources: tuple[Source, ...] = ("logs", "metrics")  # that show this endpoint
    begins: int = 0  # minute of the day (UTC) at which a rollout would begin
    days: float = 0.0  # back from now that were looked at; 0: given, not seen
    minutes: int = 0  # that were read
    expected: Spreads = field(default_factory=dict)  # the noise that the judge expects after past rollouts
    taught: int | None = None  # so many of them; None where none were asked for

    def rate(self, minute: float) -> float:
        """Requests a minute, so many minutes after the begin."""
        return self.per_minute[int(self.begins + minute) % DAY // HOUR]

    def same_for(self, minute: float) -> int:
        """For how many minutes from then on the rate stays, at least 1."""
        return HOUR - int(self.begins + minute) % HOUR

    @property
    def mean(self) -> float:
        """Requests a minute over the day."""
        return sum(self.per_minute) / len(self.per_minute)

    @property
    def p95(self) -> float:
        """Of good answers, in ms."""
        return quantile(self.durations, 0.95) or 0.0


def given(*, per_second: float, error_rate: float | None, p95: float | None, lag: int = USUAL_LAG) -> Profile:
    """The profile of an endpoint of which a person says this: log-normal durations, the usual noise, no daily rhythm."""
    return Profile(
        per_minute=(60.0 * per_second,) * HOURS,
        error_rate=USUAL_ERRORS if error_rate is None else error_rate,
        client_error_rate=USUAL_CLIENT_ERRORS,
        durations=log_normal(USUAL_P95 if p95 is None else p95),
        tau=USUAL_TAU,
        latency_tau=USUAL_LATENCY_TAU,
        lag=lag,
    )


def log_normal(p95: float) -> dict[int, int]:
    """The histogram of log-normal durations with this p95 (ms)."""
    median = p95 * exp(-SIGMA * _Z95)

    def below(index: int) -> float:
        return 0.5 * (1.0 + erf(log(edge(index) / median) / SIGMA / sqrt(2.0))) if index > 0 else 0.0

    found = {index: round(_GIVEN * (below(index + 1) - below(index))) for index in range(160)}
    return {index: count for index, count in found.items() if count}


def profile_of(
    cells: Mapping[int, Cell],
    looked: Collection[int],
    *,
    lag: int = USUAL_LAG,
    sources: tuple[Source, ...] = ("logs", "metrics"),
    begins: int = 0,
    days: float = 0.0,
) -> Profile | None:
    """What these cells show of an endpoint; None where they hold too few requests.

    Minute -> everything that was answered in it; `looked` are the minutes that were asked for: those without a cell had no
    requests. Hours of the day that were not asked for count as the mean of the others.
    """
    total = sum(cell.count() for cell in cells.values())
    if total < LEAST_REQUESTS:
        return None
    good = durations(cells.values())
    return Profile(
        per_minute=_by_hour(cells, looked),
        error_rate=_rate(cells, ERROR_CLASSES),
        client_error_rate=_rate(cells, CLIENT_ERROR_CLASSES),
        durations=good,
        tau=_spread(cells, None, USUAL_TAU),
        latency_tau=_spread(cells, quantile(good, 0.95), USUAL_LATENCY_TAU),
        lag=lag,
        sources=sources,
        begins=begins,
        days=days,
        minutes=len(looked),
    )


def _by_hour(cells: Mapping[int, Cell], looked: Collection[int]) -> tuple[float, ...]:
    asked, found = [0] * HOURS, [0] * HOURS
    for minute in looked:
        hour = minute % DAY // HOUR
        asked[hour] += 1
        found[hour] += cells[minute].count() if minute in cells else 0
    mean = sum(found) / max(1, sum(asked))
    return tuple(count / n if n else mean for count, n in zip(found, asked, strict=True))


def _rate(cells: Mapping[int, Cell], classes: tuple[str, ...]) -> float:
    """With half a request more than was seen: a rate of zero was never seen to be zero."""
    bad = sum(cell.count(*classes) for cell in cells.values())
    return (bad + 0.5) / (sum(cell.count() for cell in cells.values()) + 1.0)


def _spread(cells: Mapping[int, Cell], bar: float | None, prior: float) -> float:
    """The spread between minutes: each second minute stands for the candidate of the one before it."""
    noise = Noise()
    for minute in sorted(cells):
        after = cells.get(minute + 1)
        if minute % 2 == 0 and after is not None:
            counts = _compared(cells[minute], after, bar)
            noise = noise.after(counts, prior) if counts.m > 0 and counts.n > 0 else noise
    return noise.tau(prior)


def _compared(before: Cell, after: Cell, bar: float | None) -> Counts:
    if bar is None:
        bad = [float(cell.count(*ERROR_CLASSES)) for cell in (before, after)]
        return Counts(bad[0], float(before.count()), bad[1], float(after.count()))
    good = [cell.histograms.get("ok", {}) for cell in (before, after)]
    return Counts(slower(good[0], bar), float(timed(good[0])), slower(good[1], bar), float(timed(good[1])))
