"""The report: every table of the detection benchmark, as Markdown on standard output; progress goes to standard error.

The rule: rows are compared on the same endpoints; peers are tuned on design seeds, everything is measured on evaluation
seeds. Ours was tuned on design seeds only, too (`docs/benchmarks.md` says what).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from rollout.analysis.terms import Source
from rollout.lifecycle.rehearsal import Delay
from rollout.policy import Policy
from tests.benchmarks.detection import peers
from tests.benchmarks.detection.past import (
    ROLLOUTS_BEFORE,
    Taus,
    hour_before,
    nothing_known,
    quiet_before,
    rollouts_before,
)
from tests.benchmarks.detection.probed import CRASHES, false_crashes
from tests.benchmarks.detection.runs import OURS, SOON, Result, Runs, against, all_seen, closed_loop, crashes, fixed
from tests.benchmarks.detection.workload import (
    AT_MARGIN,
    CELLS,
    FAULTS,
    HARMLESS,
    HEALTHY,
    SCHEDULE,
    Cell,
    Fault,
    Noise,
    benchmark_policy,
)

CLOSED, EARLY = "**Rollout**, fixed bakes", "**Rollout**, with early promotion"
HEADLINES = (
    (Cell(10, 0.01), "+2pp"),
    (Cell(100, 0.01), "+2pp"),
    (Cell(100, 0.01), "+5pp"),
    (Cell(100, 0.01), "mid-step +5pp"),
    (Cell(100, 0.01), "p95 ×1.3"),
    (Cell(100, 0.01), "p95 ×2"),
)
#: At most: false roll backs in percent, bad requests served.
FALSE_GOALS = {"noisy, pooled": 1.0, "worst cell": 2.0, "shared incident": 1.0, "cold start": 1.5}
HARM_GOALS = {HEADLINES[0]: 30.0, HEADLINES[1]: 80.0, HEADLINES[3]: 800.0, HEADLINES[4]: 250.0}
LATE: Mapping[str, Mapping[Source, Delay]] = {
    "2 to 3 min": SOON,
    "5 to 6 min": {"logs": Delay(steady=5, closed=5)},
    "10 to 11 min": {"logs": Delay(steady=10, closed=10)},
    "errors 2 to 3 min (metrics), the rest 10 to 11 (logs)": {
        "logs": Delay(steady=10, closed=10),
        "metrics": Delay(steady=2, closed=2),
    },
}
NOISES: tuple[Noise, ...] = ("noisy", "iid")
KNOWN = {
    "nothing": nothing_known,
    "stable's hour before": hour_before,
    f"{ROLLOUTS_BEFORE} rollouts before": rollouts_before,
    "the quietest past": quiet_before,
}
CRASH_CELLS, CRASHED = tuple(Cell(rate, 0.01) for rate in (1, 10, 100, 1000)), 500
ALPHAS = ("1%", "2%", "5%", "10%", "20%")


@dataclass
class Report:
    """Runs what its tables need; `healthy` and `faults` say how many rollouts of each kind."""

    healthy: int
    faults: int
    begun: float = field(default_factory=perf_counter)
    missed: list[str] = field(default_factory=list)
    known: dict[tuple[Cell, Noise], dict[str, peers.Rule]] = field(default_factory=dict)  # the peers' rules, tuned

    def write(self) -> list[str]:
        """All tables; returns the goals that were missed."""
        closed, early = benchmark_policy(), benchmark_policy(early=True)
        ours = {CLOSED: closed, EARLY: early}
        self._false(ours)
        self._headlines(ours)
        self._late(early)
        self._everywhere(early)
        self._margin(early)
        self._alphas()
        self._without_retreat(closed)
        self._known(closed)
        self._crashes(closed)
        return self.missed

    def _say(self, what: str) -> None:
        print(f"[{perf_counter() - self.begun:5.0f} s] {what}", file=sys.stderr, flush=True)

    # --- healthy rollouts ------------------------------------------------------------------------------------------

    def _false(self, ours: Mapping[str, Policy]) -> None:
        columns: dict[str, dict[str, list[Result]]] = {}
        for name, noise, fault in self._harmless():
            for cell in CELLS:
                self._say(f"healthy: {name}, {cell}")
                runs = Runs(cell=cell, noise=noise, fault=fault, count=self.healthy)
                found = against(self._rules(cell, noise), runs, benchmark_policy(retreat=False))
                found |= {label: closed_loop(policy, runs) for label, policy in ours.items()}
                for rule, result in found.items():
                    columns.setdefault(rule, {}).setdefault(name, []).append(result)
        heads = ["noisy, pooled", "worst cell", *list(HARMLESS)[1:], "iid", "retreated", "minutes to 100 %"]
        rows = [[rule, *self._false_row(rule, results)] for rule, results in columns.items()]
        _table("False roll backs of healthy rollouts, %", ["", *heads], rows)

    def _harmless(self) -> list[tuple[str, Noise, Fault]]:
        noisy: list[tuple[str, Noise, Fault]] = [(name, "noisy", fault) for name, fault in HARMLESS.items()]
        return [*noisy, ("iid", "iid", HEALTHY)]

    def _rules(self, cell: Cell, noise: Noise) -> dict[str, peers.Rule]:
        if (cell, noise) not in self.known:
            design, _ = all_seen(Runs(cell=cell, noise=noise, fault=HEALTHY, count=self.healthy, purpose="design"))
            self.known[cell, noise] = peers.documented() | peers.tuned_rules(design)
        return self.known[cell, noise]

    def _false_row(self, rule: str, results: Mapping[str, Sequence[Result]]) -> list[str]:
        pooled = {name: float(np.mean([one.rate for one in found])) for name, found in results.items()}
        worst = max(one.rate for one in results["healthy"])
        told = {"noisy, pooled": pooled.pop("healthy"), "worst cell": worst, **pooled}
        if rule in {CLOSED, EARLY}:
            self._check(rule, told, FALSE_GOALS)
        cut = [100 * float(one.retreated.mean()) for one in results["healthy"]]
        quiet = [100 * float(one.retreated.mean()) for one in results["iid"]]
        minutes = [
            float(np.sum(one.minutes * kept) / max(kept.sum(), 1))
            for one in results["healthy"]
            for kept in [one.stopped == 0]
        ]
        retreats = f"{np.mean(cut):.0f} (worst {max(cut):.0f}; iid {np.mean(quiet):.0f})" if max(cut) else "–"
        return [*(_percent(value) for value in told.values()), retreats, _range(minutes) if max(cut) else str(SCHEDULE)]

    def _check(self, rule: str, told: Mapping[str, float], goals: Mapping[str, float]) -> None:
        for name, most in goals.items():
            if told[name] > most:
                self.missed.append(f"{rule}: {name} {told[name]:.2f} %, at most {most} % wanted")

    # --- faults ----------------------------------------------------------------------------------------------------

    def _headlines(self, ours: Mapping[str, Policy]) -> None:
        rows: dict[str, list[str]] = {}
        for cell, name in HEADLINES:
            self._say(f"faults: {name}, {cell}")
            runs = Runs(cell=cell, noise="noisy", fault=FAULTS[name], count=self.faults)
            found = against(self._rules(cell, "noisy"), runs, benchmark_policy(retreat=False))
            found |= {label: closed_loop(policy, runs) for label, policy in ours.items()}
            found["quiet data: an oracle that knows both rates"] = self._oracle(cell, FAULTS[name])
            for rule, result in found.items():
                rows.setdefault(rule, []).append(result.told() if len(result.harm) else "–")
            for label in ours:
                self._check_harm(label, (cell, name), found[label])
        heads = [f"{cell.rate:g}/s {name}" for cell, name in HEADLINES]
        shown = [[rule, *cells] for rule, cells in rows.items() if "as documented" not in rule and "3 of 5" not in rule]
        _table("`noisy`, base 1 %: detected % / minutes from the fault / bad requests served", ["", *heads], shown)

    def _check_harm(self, rule: str, headline: tuple[Cell, str], result: Result) -> None:
        most = HARM_GOALS.get(headline, np.inf)
        if result.harm.mean() > most:
            self.missed.append(
                f"{rule}: {headline[1]} at {headline[0]}: {result.harm.mean():.0f} bad, {most:.0f} wanted"
            )

    def _oracle(self, cell: Cell, fault: Fault) -> Result:
        """On quiet data, tuned to 1 % false roll backs; for errors only."""
        if fault.slower > 1.0:
            return Result()
        rates = {"p0": cell.error, "p1": cell.error + fault.error, "from_start": not fault.mid_step}
        healthy, _ = all_seen(Runs(cell=cell, noise="iid", fault=HEALTHY, count=self.healthy, purpose="design"))
        rule = peers.tuned(healthy, lambda threshold: peers.oracle(threshold=threshold, **rates), 0.0, 20.0)
        seen, phase = all_seen(Runs(cell=cell, noise="iid", fault=fault, count=self.faults))
        return fixed(rule(seen), seen, phase)

    def _late(self, policy: Policy) -> None:
        rows = []
        for label, delays in LATE.items():
            self._say(f"data visible after {label}")
            sources = {"evidence": tuple(delays)}
            one = policy.model_copy(update={"expert": policy.expert.model_copy(update=sources)})
            false = [
                closed_loop(one, Runs(cell=cell, noise="noisy", fault=HEALTHY, count=self.healthy), delays).rate
                for cell in CELLS
            ]
            found = [
                closed_loop(one, Runs(cell=cell, noise="noisy", fault=FAULTS[name], count=self.faults), delays)
                for cell, name in HEADLINES
            ]
            rows.append([label, _percent(np.mean(false)), _percent(max(false)), *(result.told() for result in found)])
        heads = ["data visible after", "false, pooled", "worst cell"]
        _table("The same with later data", [*heads, *(f"{cell.rate:g}/s {name}" for cell, name in HEADLINES)], rows)

    def _everywhere(self, policy: Policy) -> None:
        rows = []
        for name, fault in FAULTS.items():
            self._say(f"everywhere: {name}")
            row = [name]
            for cell in CELLS:
                runs = Runs(cell=cell, noise="noisy", fault=fault, count=max(40, self.faults // 5))
                row.append(closed_loop(policy, runs).told())
            rows.append(row)
        _table("All faults in all cells: detected % / minutes / bad requests served", ["", *map(str, CELLS)], rows)

    def _margin(self, policy: Policy) -> None:
        hold = benchmark_policy(retreat=False)
        rows: dict[str, list[str]] = {}
        for noise in ("iid", "noisy"):
            for cell in CELLS:
                self._say(f"at the margin: {noise}, {cell}")
                runs = Runs(cell=cell, noise=noise, fault=AT_MARGIN, count=self.healthy)
                rows.setdefault(f"{noise}, thresholds only", []).append(_percent(against({}, runs, hold)[OURS].rate))
                rows.setdefault(f"{noise}, with retreat", []).append(_percent(closed_loop(policy, runs).rate))
        shown = [[name, *cells] for name, cells in rows.items()]
        _table("Rolled back exactly at the margin, % (α = 5 %)", ["", *map(str, CELLS)], shown)

    def _alphas(self) -> None:
        rows = []
        for alpha in ALPHAS:
            self._say(f"α = {alpha}")
            policy = benchmark_policy(early=True, alpha=alpha)
            false = [
                closed_loop(policy, Runs(cell=cell, noise="noisy", fault=HEALTHY, count=self.healthy)).rate
                for cell in CELLS
            ]
            harm = [
                closed_loop(policy, Runs(cell=cell, noise="noisy", fault=FAULTS[name], count=self.faults)).harm.mean()
                for cell, name in HEADLINES
            ]
            rows.append([alpha, _percent(np.mean(false)), _percent(max(false)), *(f"{value:,.0f}" for value in harm)])
        heads = ["α", "false, pooled", "worst cell", *(f"{cell.rate:g}/s {name}" for cell, name in HEADLINES)]
        _table("The trade-off: false roll backs, % against bad requests served", heads, rows)

    def _row(self, policy: Policy, noise: Noise, known: Taus = nothing_known) -> tuple[list[Result], list[Result]]:
        """Healthy rollouts by cell, and the headlines."""
        healthy = [
            closed_loop(policy, Runs(cell=cell, noise=noise, fault=HEALTHY, count=self.healthy), known=known)
            for cell in CELLS
        ]
        found = [
            closed_loop(policy, Runs(cell=cell, noise=noise, fault=FAULTS[name], count=self.faults), known=known)
            for cell, name in HEADLINES
        ]
        return healthy, found

    def _compared(self, title: str, rows: Mapping[str, tuple[list[Result], list[Result]]]) -> None:
        shown = []
        for label, (healthy, found) in rows.items():
            false, cut = ([getattr(one, name) for one in healthy] for name in ("rate", "cut"))
            took = [float(one.minutes[one.stopped == 0].mean()) for one in healthy]
            told = [_percent(np.mean(false)), _percent(max(false)), f"{np.mean(cut):.0f}", _range(took)]
            shown.append([label, *told, *(one.told() for one in found)])
        heads = ["", "false, pooled", "worst cell", "cut back", "minutes to 100 %"]
        _table(title, [*heads, *(f"{cell.rate:g}/s {name}" for cell, name in HEADLINES)], shown)

    def _without_retreat(self, closed: Policy) -> None:
        rows = {}
        for label, retreat in (("`suspicion: retreat`", True), ("`suspicion: hold`", False)):
            for noise in NOISES:
                self._say(f"{label}, {noise}")
                policy = closed if retreat else benchmark_policy(retreat=False)
                rows[f"{noise}, {label}"] = self._row(policy, noise)
        self._compared("What retreats cost and save, fixed bakes", rows)

    def _known(self, closed: Policy) -> None:
        rows = {}
        for noise in NOISES:
            for label, known in KNOWN.items():
                self._say(f"{noise}: {label}")
                rows[f"{noise}, {label}"] = self._row(closed, noise, known)
        self._compared("What is known of the endpoint's noise, fixed bakes", rows)

    def _crashes(self, closed: Policy) -> None:
        rows = []
        for name, crash in CRASHES.items():
            self._say(f"probes: {name}")
            row, fault = [], Fault(error=crash.part)
            for cell in CRASH_CELLS:
                runs = Runs(cell=cell, noise="noisy", fault=fault, count=min(CRASHED, self.faults))
                soon, late = (closed_loop(closed, runs, LATE[path]) for path in ("2 to 3 min", "10 to 11 min"))
                seconds, probed = crashes(crash, runs, soon)
                harms = " · ".join(f"{one.harm.mean():,.0f}" for one in (probed, soon, late))
                row.append(f"{60 * probed.minutes.mean():.0f} s · {harms}")
            seen = seconds[np.isfinite(seconds)]
            guard = f"{100 * len(seen) / len(seconds):.0f}/{seen.mean():.1f}/{np.quantile(seen, 0.95):.1f}"
            rows.append([name, guard, *row])
        heads = ["", "ten failed pairs: seen %/s/95th", *(f"{cell.rate:g}/s" for cell in CRASH_CELLS)]
        _table(
            "Crashes: seconds with probes · bad served so · with data after 2 to 3 min · 10 to 11 min",
            heads,
            rows,
        )
        self._false_crashes()

    def _false_crashes(self) -> None:
        rows = []
        for name, fault in HARMLESS.items():
            found = []
            for cell in CELLS:
                runs = Runs(cell=cell, noise="noisy", fault=fault, count=self.healthy)
                found.append(max(np.mean([false_crashes(endpoint).mean() for endpoint, _ in runs.endpoints()]), 1e-12))
            rows.append([name, *(f"{value:.0e}" for value in found)])
        _table("Ten failed pairs by chance: at most so many a rollout of 50 minutes", ["", *map(str, CELLS)], rows)


def _percent(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.0f}–{max(values):.0f}"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [f"\n### {title}\n", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    print("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]), flush=True)
