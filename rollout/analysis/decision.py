"""The decision: the table that turns evidence and guards into pass, hold, retreat or fail.

The rule: the first line that applies decides. Fails come before doubts, doubts before passes; a retreat never turns into
a pass, and a fail by evidence goes through a retreat where the policy retreats, unless the evidence is overwhelming. To
retreat costs little and promises nothing, so a suspicion is enough; to fail takes evidence that keeps its promise, and
minutes since the retreat that do not dispute it. Any condition more only lowers the chance to fail a good candidate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rollout.analysis import guards
from rollout.analysis.checks import Check
from rollout.analysis.findings import Harm, Key, Look, harm_of
from rollout.analysis.judgement import CheckState
from rollout.analysis.terms import Action, Reason, Series, Stage
from rollout.policy import Policy

SUSPICION = 40.0  # of any check: the share is cut
OVER, RESUME = 20.0, 0.7  # suspicion and E below which a suspicion is over
UNDISPUTED = 1.0  # E below which a step can pass early
DOUBT = 5.0  # E from which time alone does not pass a step
OVERWHELMING = 1e6  # E that fails at once
HARMFUL = 1.0  # E from which requests count as harmed by the candidate
RETREAT_LEAST = 8  # minutes of retreat before evidence fails …
OWN_BLOCKS = 3  # … with so many blocks of its own, …
PERSISTS = 0.7  # … as likely, at least, under a fault as at the margin: a burst that passed is no fault
RETREAT_MOST = 40  # minutes after which a retreat ends
RETREAT_SETTLE = 2  # minutes beyond the data's lag before a retreat may end
RENEWED = 2.0  # a retreat that ended for its length alone needs this much more suspicion to come again
EARLY_BLOCKS = 4  # blocks of a step before it can pass early
BETA = 0.05  # "not worse" is shown at N >= 1/BETA


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a decision rests on."""

    policy: Policy
    stage: Stage
    looks: tuple[Look, ...]
    deciding: Look  # the source that decides promotion
    series: Series | None  # what it showed
    evidence: float
    culprits: tuple[Key, ...]
    suspects: Mapping[Key, float]  # each check's suspicion, the loudest first
    threshold: float
    resumed_at: float
    now: int
    failed_pairs: int = 0  # probes in a row, up to now, of which only the candidate's was bad

    @property
    def proof(self) -> float:
        """N from which "not worse" is shown."""
        return 1.0 / BETA

    @property
    def proven(self) -> bool:
        """Every check is shown to be not worse."""
        checks = self.deciding.criteria.checks
        return bool(checks) and all(self.deciding.not_worse(check) >= self.proof for check in checks)

    @property
    def sized(self) -> bool:
        """These are the first minutes of the first step, at a share sized down from its own (never what people set)."""
        if self.policy.mode == "observe":
            return False
        first, last = self.policy.steps[0].traffic, 100 - self.policy.holdback
        return self.stage.step == 0 and self.stage.retreated_since is None and self.stage.traffic < min(first, last)

    @property
    def enough_requests(self) -> bool:
        """The candidate had as many requests in this step as the policy asks for; its sized-down minutes are no step."""
        return self.sized or self.deciding.closed.step_candidate >= self.policy.min_requests

    @property
    def comparable(self) -> bool:
        """Every latency check knows what slow is, and what is counted or reported in its own way was, in this step."""
        return not self.unknown

    @property
    def unknown(self) -> tuple[Check, ...]:
        """The checks that could not compare yet: those that promotion is decided on, and the policy's own ones."""
        looks = [look for look in self.looks if look is self.deciding or look.criteria.source == "custom"]
        found = [
            (check, look.closed.checks.get(check.name, CheckState()))
            for look in looks
            for check in dict.fromkeys((*look.criteria.checks, *look.criteria.bounded))
        ]
        return tuple(check for check, known in found if not _compared(check, known))

    @property
    def crashed(self) -> tuple[Key, ...]:
        """The check that fails for the probes that only stable answered, if so many did in a row."""
        if self.failed_pairs < guards.CRASHED_PAIRS:
            return ()
        known = [look.criteria for look in self.looks if look.criteria.source == "probes"]
        return tuple(("probes", check.name) for one in known for check in one.checks if check.name == "error_rate")

    @property
    def harm(self) -> Harm:
        """What the candidate has surely done to the callers, as the source shows it that shows the most."""
        return max((harm_of(look, self.culprits) for look in self.looks), key=lambda one: one.surely, default=Harm())

    @property
    def suspicion(self) -> float:
        """The loudest check's."""
        return max(self.suspects.values(), default=0.0)

    @property
    def marked(self) -> tuple[Key, ...]:
        """The checks to name: those that carry the evidence, else the most suspect."""
        return self.culprits or tuple(key for key, one in self.suspects.items() if one >= 0.5 * self.suspicion)

    @property
    def calm(self) -> bool:
        """What was suspected is over."""
        return self.suspicion < OVER and self.evidence < RESUME

    @property
    def retreats(self) -> bool:
        """The policy cuts the share on a suspicion."""
        return self.policy.when.suspicion == "retreat"


def _compared(check: Check, known: CheckState) -> bool:
    """The check has what it compares with; in this step, where nothing but its own measure tells."""
    if check.reported:
        return bool(known.reported)
    return known.step.n > 0.0 if check.measure is not None else check.quantile is None or known.bar is not None


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What was decided; `because` is the guard's sentence, `marked` the checks that carried it."""

    action: Action
    reason: Reason
    because: str = ""
    marked: tuple[Key, ...] = ()
    resumed_at: float = 0.0


def decide(case: Case) -> Ruling:
    """The first line of the table that applies."""
    ruling = _fail(case)
    if ruling is None:
        ruling = _suspect(case) if case.stage.retreated_since is None else _retreated(case)
    return ruling or _hold(case) or _pass(case)


def _fail(case: Case) -> Ruling | None:
    broken = case.crashed or _first(case, hard=True)
    if broken:
        return Ruling(action="fail", reason=Reason.HARD_GUARD, marked=broken)
    above = _first(case, hard=False)
    if above:
        return Ruling(action="fail", reason=Reason.MAXIMUM, marked=above)
    budget = case.policy.expert.harm_budget
    if budget is not None and case.evidence >= HARMFUL and case.harm.surely > budget:
        return Ruling(action="fail", reason=Reason.HARM, marked=case.marked)
    if not any(look.total() >= case.threshold and _may_fail(case, look) for look in case.looks):
        return None
    return Ruling(action="fail", reason=Reason.REGRESSION, marked=case.culprits)


def _may_fail(case: Case, look: Look) -> bool:
    """Where the policy retreats, evidence fails a rollout only after some minutes of retreat that don't dispute it."""
    since = case.stage.retreated_since
    if not case.retreats or look.total() >= OVERWHELMING:
        return True
    stayed = case.now - since if since is not None else 0
    return stayed >= RETREAT_MOST or (stayed >= RETREAT_LEAST and _persists(case, look))


def _persists(case: Case, look: Look) -> bool:
    """The minutes since the retreat do not dispute what is blamed, in any source that shows enough of them.

    Sources that show the same requests are heard together; probes and own checks speak of others.
    """
    same = guards.LIVE if look.criteria.source in guards.LIVE else frozenset({look.criteria.source})
    for check in look.blamed():
        heard = [
            other.says(check)
            for other in case.looks
            if other.criteria.source in same
            and check.name in other.criteria.weights
            and other.seen.step_blocks >= OWN_BLOCKS
        ]
        if heard and min(heard) >= PERSISTS:
            return True
    return False


def _first(case: Case, *, hard: bool) -> tuple[Key, ...]:
    """The first check that trips the hard guard, or that is above its maximum while stable is not."""
    for look in case.looks:
        for check in look.criteria.checks if hard else look.criteria.bounded:
            state = look.seen.checks.get(check.name, CheckState())
            blocks = look.seen.step_blocks
            above = guards.above_maximum(state, check, blocks) and not guards.stable_above_maximum(state, check)
            if guards.hard_guard(state) if hard else above:
                return ((look.criteria.source, check.name),)
    return ()


def _suspect(case: Case) -> Ruling | None:
    loud = case.suspicion >= max(SUSPICION, RENEWED * case.resumed_at) or case.evidence >= case.threshold
    if not (case.retreats and loud):
        return None
    return Ruling(action="retreat", reason=Reason.SUSPICION, marked=case.marked, resumed_at=case.resumed_at)


def _retreated(case: Case) -> Ruling | None:
    """Stay, wait for something to judge, or end the retreat; never None for long: a retreat does not pass."""
    since = case.stage.retreated_since or case.now
    stay = Ruling(action="retreat", reason=Reason.SUSPICION, marked=case.marked)
    blind = guards.hold(case.series, case.deciding.seen, case.stage, case.deciding.criteria, case.now)
    if blind:
        return Ruling(action="hold", reason=blind[0], because=blind[1], marked=case.marked)
    newest = max(case.deciding.closed.through, case.deciding.seen.latest + 1)
    shown = newest - since > RETREAT_SETTLE  # minutes under the smaller share that were taken in
    if shown and case.calm:
        return Ruling(action="hold", reason=Reason.RECOVERED)
    if case.now - since >= RETREAT_MOST and case.evidence < case.threshold:
        return Ruling(action="hold", reason=Reason.RECOVERED, resumed_at=case.suspicion)
    return stay


def _hold(case: Case) -> Ruling | None:
    kept = 0.0 if case.calm else case.resumed_at
    found = guards.hold(case.series, case.deciding.seen, case.stage, case.deciding.criteria, case.now)
    if found is None:
        found = _both_above(case) or _unfinished(case)
    return Ruling(action="hold", reason=found[0], because=found[1], resumed_at=kept) if found else None


def _both_above(case: Case) -> tuple[Reason, str] | None:
    for look in case.looks:
        for check in look.criteria.bounded:
            state = look.seen.checks.get(check.name, CheckState())
            if guards.above_maximum(state, check, look.seen.step_blocks):
                return Reason.MAXIMUM, f"both deployments are above the allowed maximum of {check.label}"
    return None


def _unfinished(case: Case) -> tuple[Reason, str] | None:
    """Why the bake does not end yet; None where it may."""
    blocks, wanted = case.deciding.closed.step_blocks, case.stage.bake
    early = case.policy.expert.early and case.proven and blocks >= EARLY_BLOCKS and case.evidence < UNDISPUTED
    if blocks < wanted:
        return None if early and case.enough_requests and case.comparable else (Reason.BAKE, "")
    if not case.enough_requests:
        return Reason.REQUESTS, ""
    if case.evidence >= DOUBT:
        return Reason.DOUBT, ""
    return None if case.comparable else (Reason.NOT_COMPARABLE, "")


def _pass(case: Case) -> Ruling:
    kept = 0.0 if case.calm else case.resumed_at
    early = case.deciding.closed.step_blocks < case.stage.bake
    shown = Reason.PROVEN if case.proven else Reason.TIME
    return Ruling(action="pass", reason=Reason.EARLY if early else shown, resumed_at=kept)
