"""What may be asked of the daemon: start, look, command.

The rule: a request becomes a row in the store and a wake-up; what follows from it is decided by the next tick. Every
refusal is an error of `rollout.errors` whose sentence says what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Protocol

from rollout.analysis.checks import deciding_source
from rollout.analysis.profile import Profile
from rollout.analysis.terms import Source
from rollout.errors import ConflictError, PolicyError, RefusedError
from rollout.lifecycle import Rollout, eta, new_rollout
from rollout.lifecycle.again import retry_of, undo_of
from rollout.lifecycle.explain import explain
from rollout.lifecycle.export import export
from rollout.lifecycle.planning import as_yaml, plan_of, proposal
from rollout.lifecycle.releases import Release
from rollout.policy import CustomCheck, Files, Manifest, Policy, effective_yaml, first_of, policy_of
from rollout.policy.triggers import KINDS
from rollout.ports import Clock, Delivery, ReleasingStore, Start
from rollout.triggers import Watched
from rollout.web import views
from rollout.web.explaining import explain_view
from rollout.web.freezes import FreezeBook
from rollout.web.plans import plan_view
from rollout.web.releasing import Conducting, Releasing
from rollout.web.triggering import trigger_view
from rollout.web.trying import Trials, trial_view
from rollout.world import Command, CommandResult, EndpointRef, Snapshot, Verb

MAX_LISTED, LISTED_STARTS = 500, 10
MAX_LOOKED_BACK = 20  # rollouts of an endpoint among which the last promotion is looked for


class Policies(Protocol):
    """The policies that the daemon knows, and the way to read one that was sent."""

    def find(self, name: str) -> Policy:
        """The loaded policy of this name. Raises PolicyError where there is none, naming those there are."""

    def parse(self, text: str, *, file: str, files: Files | None = None) -> Policy:
        """One that was sent, over the settings' defaults; `files` reads what it names. Raises PolicyError with every mistake."""

    def listed(self) -> Sequence[views.PolicyFile]:
        """Every file, with its mistakes."""


class World(Protocol):
    """What the daemon has seen of Azure."""

    def latest(self, ref: EndpointRef) -> Snapshot | None:
        """The last look at an endpoint."""

    def lag(self, ref: EndpointRef, *, source: Source = "logs") -> timedelta:
        """How old data of this source is when it counts."""

    def sources(self) -> Sequence[Mapping[str, Any]]:
        """How each source did: name, last success, last error, data lag (JSON values)."""


class Past(Protocol):
    """What the daemon can find out about an endpoint's last days."""

    def profile(self, ref: EndpointRef, *, hours: int) -> Profile:
        """Its traffic; asks Azure, within bounds. Raises UnavailableError or RefusedError."""

    def at_once(self, ref: EndpointRef) -> Profile | None:
        """What is known without asking anybody."""


@dataclass(frozen=True, kw_only=True)
class NewCommand:
    """What a person asks of a rollout, before it is written down."""

    verb: Verb
    by: str
    origin: str
    reason: str | None = None
    full: bool = False
    drift: str | None = None


class Service:
    """Everything that the API can do; safe to call from many threads."""

    def __init__(
        self,
        *,
        store: ReleasingStore,
        clock: Clock,
        policies: Policies,
        world: World,
        workspaces: Sequence[str],
        wake: Callable[[], None],
        started: Callable[[EndpointRef], None],
        new_id: Callable[[], str],
        past: Past | None = None,
        trials: Trials | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        triggers: Callable[[], Sequence[Watched]] = tuple,
        conductor: Conducting,
    ) -> None:
        self.groups = groups or {}
        self._triggers = triggers
        self._past = past
        self._trials = trials
        self.policies = policies
        self.world = world
        self._store = store
        self._clock = clock
        self._workspaces = tuple(workspaces)
        self._wake = wake
        self._started = started
        self._new_id = new_id
        self._one_at_a_time = Lock()
        self.releasing = Releasing(store=store, conductor=conductor, clock=clock, new_id=new_id, latest=world.latest)
        self.freezes = FreezeBook(
            store=store,
            clock=clock,
            wake=wake,
            new_id=new_id,
            workspace=lambda name: self._workspace(name, how="name one with --workspace"),
            seen=lambda ref: world.latest(ref) is not None,
        )
        self.speed = 1.0 / clock.real_seconds(timedelta(seconds=1))

    def now(self) -> datetime:
        """The daemon's time."""
        return self._clock.now()

    # --- rollouts

    def start(
        self,
        policy: Policy,
        *,
        by: str,
        stable: str | None = None,
        candidate: str | None = None,
        observe: bool = False,
        key: str | None = None,
    ) -> Rollout:
        """Begin a rollout, or return the one that the same `key` began before; `observe` makes it one that never writes.

        Raises ConflictError where the endpoint has an active one.
        """
        if policy.waves is not None:
            raise PolicyError(f"{policy.name} has waves of several endpoints: it begins a release, not one rollout.")
        _refuse_far_folders(policy.manifest)
        changes = {"stable": stable} if stable else {}
        policy = policy.model_copy(update={**changes, **({"mode": "observe"} if observe else {})})
        ref = self.ref_of(policy)
        rollout, events = new_rollout(
            rollout_id=self._new_id(), ref=ref, policy=policy, candidate=candidate, by=by, now=self.now()
        )
        if (began := self._store.create(rollout, events, (), key=key)) != rollout.id:
            return self._store.load(began)
        return self._begun(rollout)

    def undo(self, ref: EndpointRef, *, by: str, reason: str | None) -> Rollout:
        """Begin to go back to the stable that the last promotion has left. Raises ConflictError where there is none."""
        past = self._store.rollouts(ref=ref, limit=MAX_LOOKED_BACK)
        rollout, events = undo_of(past, rollout_id=self._new_id(), by=by, reason=reason, now=self.now())
        self._store.create(rollout, events, ())
        return self._begun(rollout)

    def retry(self, last: Rollout, *, by: str, reason: str | None, from_step: int) -> Rollout:
        """Begin a rollout again, `from_step` from 1. Raises ConflictError where it did not end without a promotion."""
        rollout, events = retry_of(
            last, rollout_id=self._new_id(), by=by, reason=reason, from_step=from_step, now=self.now()
        )
        self._store.create(rollout, events, ())
        return self._begun(rollout)

    def _begun(self, rollout: Rollout) -> Rollout:
        self._wake()
        self._started(rollout.ref)
        return rollout

    def start_release(self, policy: Policy, *, by: str, key: str | None = None) -> Release:
        """Begin a release over the endpoints of the policy's waves. Raises ConflictError and PolicyError."""
        _refuse_far_folders(policy.manifest)
        _refuse_far_folders(policy.manifest)
        targets = policy.waves.targets() if policy.waves else ()
        refs = [self.ref_of(policy_of(policy, target)) for target in targets]
        return self.releasing.start(policy, refs, by=by, key=key)

    def plan(self, policy: Policy, *, hours: int) -> views.Json:
        """What the policy does on its (first) endpoint, from its last hours; waits for Azure. Raises RolloutError."""
        policy = first_of(policy)
        ref = self.ref_of(policy)
        if self._past is None:
            raise RefusedError("This daemon keeps no past of its endpoints: plan with --rps.")
        plan = plan_of(policy, self._past.profile(ref, hours=hours))
        base = self.policies.parse(f"endpoint_name: {policy.endpoint_name}\n", file="defaults")
        better = proposal(policy, plan.profile)
        text = as_yaml(better, base=base) if better else None
        written = {"policy_yaml": effective_yaml(policy), "base_yaml": effective_yaml(base)}
        return {**plan_view(policy, plan, proposal=text), **written}

    def plan_at_once(self, rollout: Rollout) -> views.Json | None:
        """The same from what is known without asking anybody; None where that is too little."""
        profile = self._past.at_once(rollout.ref) if self._past else None
        return plan_view(rollout.policy, plan_of(rollout.policy, profile)) if profile else None

    def try_checks(
        self, endpoint: str, checks: Sequence[CustomCheck], *, workspace: str | None, hours: int
    ) -> views.Json:
        """What the queries of these checks count on an endpoint just now; waits for Azure. Raises RolloutError."""
        if self._trials is None:
            raise RefusedError("This daemon runs no queries.")
        ref = EndpointRef(workspace=self._workspace(workspace, how="name one with --workspace"), name=endpoint)
        return trial_view(self._trials.run(ref, checks, hours=hours), checks)

    def ref_of(self, policy: Policy) -> EndpointRef:
        """The endpoint that a policy is about. Raises PolicyError where the settings do not tell its workspace."""
        workspace = self._workspace(policy.workspace, how="add `workspace:` to the policy")
        return EndpointRef(workspace=workspace, name=policy.endpoint_name)

    def _workspace(self, name: str | None, *, how: str) -> str:
        known = ", ".join(self._workspaces)
        if name is None:
            if len(self._workspaces) != 1:
                raise PolicyError(f"The settings name several workspaces ({known}): {how}.")
            return self._workspaces[0]
        if name not in self._workspaces:
            raise PolicyError(f"workspace: {name} is not in the settings, which name {known}.")
        return name

    def rollouts(self, *, workspace: str | None, active_only: bool, limit: int) -> list[Rollout]:
        """Newest first."""
        found = self._store.rollouts(active_only=active_only, limit=min(limit, MAX_LISTED))
        return [rollout for rollout in found if workspace in (None, rollout.ref.workspace)]

    def find(self, handle: str, *, workspace: str | None) -> Rollout:
        """The active rollout of the endpoint of this name, else its newest; also by the rollout's id."""
        wanted = self._workspaces if workspace is None else (workspace,)
        if workspace is not None and workspace not in self._workspaces:
            raise RefusedError(f"There is no workspace {workspace}; the settings name {', '.join(self._workspaces)}.")
        refs = [EndpointRef(workspace=name, name=handle) for name in wanted]
        found = [rollout for rollout in map(self._store.latest, refs) if rollout is not None]
        if len(found) > 1:
            found = [rollout for rollout in found if not rollout.ended] or found
        if len(found) > 1:
            names = " and ".join(rollout.ref.workspace for rollout in found)
            raise ConflictError(f"{handle} has rollouts in {names}: say which with --workspace.")
        return found[0] if found else self._by_id(handle)

    def _by_id(self, handle: str) -> Rollout:
        try:
            return self._store.load(handle)
        except RefusedError:
            raise RefusedError(
                f"{handle} has no rollout. `rollout list` shows what there is; `rollout start` begins one."
            ) from None

    def view(self, rollout: Rollout) -> views.Json:
        """A rollout as the API shows it."""
        now, freezes = self.now(), self.freezes.listed(rollout.ref)
        return views.rollout_view(
            rollout,
            snapshot=self.world.latest(rollout.ref),
            eta=eta(
                rollout,
                now=now,
                lag=self.world.lag(rollout.ref, source=deciding_source(rollout.policy)),
                freezes=freezes,
            ),
            now=now,
            freezes=freezes,
            speed=self.speed,
        )

    def history(self, rollout: Rollout, *, last: int | None = None) -> list[views.Json]:
        """What happened, oldest first; `last` keeps only so many of the newest."""
        events = self._store.history(rollout.id)
        return views.history_view(events if last is None else events[-last:] if last else ())

    def explain(self, rollout: Rollout, *, step: int | None) -> views.Json:
        """The last verdict, or the last one on this step (from 1), with what led to it."""
        if step is not None and not 1 <= step <= len(rollout.policy.steps):
            raise PolicyError(
                f"There is no step {step}: the policy {rollout.policy.name} has {len(rollout.policy.steps)}."
            )
        exhibits, history = self._store.exhibits(rollout.id), self._store.history(rollout.id)
        with self._one_at_a_time:  # judging again takes a second for a day's rollout; ticks go first
            found = explain(rollout, exhibits, history, step=None if step is None else step - 1)
        return explain_view(found, now=self.now(), speed=self.speed)

    def export(self, rollout: Rollout) -> views.Json:
        """The rollout with everything that it was judged on."""
        return export(rollout, self._store.exhibits(rollout.id), self._store.history(rollout.id))

    # --- commands

    def submit(self, rollout: Rollout, asked: NewCommand) -> Command:
        """Write a command down for the next tick. Raises ConflictError where the rollout has ended."""
        if rollout.ended:
            raise ConflictError(f"The rollout of {rollout.ref.name} has ended: {rollout.sentence}")
        command = Command(
            id=self._new_id(),
            rollout_id=rollout.id,
            verb=asked.verb,
            at=self.now(),
            by=asked.by,
            origin=asked.origin,
            reason=asked.reason,
            full=asked.full,
            drift=asked.drift,
            groups=self._groups_of(asked.by),
        )
        self._store.submit(command)
        self._wake()
        return command

    def _groups_of(self, person: str) -> tuple[str, ...]:
        """The groups of the settings that a person belongs to, as far as their name can be believed."""
        name = person.casefold()
        return tuple(group for group, people in self.groups.items() if name in {one.casefold() for one in people})

    def command_result(self, command_id: str) -> CommandResult | None:
        """None while no tick has seen it."""
        return self._store.command_result(command_id)

    # --- triggers

    def triggers(self, *, endpoint: str | None, workspace: str | None) -> list[views.Json]:
        """Every policy's trigger, with what it saw and did last."""
        return [
            trigger_view(watched, self._starts(watched))
            for watched in self._triggers()
            if endpoint in {None, watched.policy.endpoint_name}
            and (workspace is None or (watched.ref is not None and watched.ref.workspace == workspace))
        ]

    def _starts(self, watched: Watched) -> list[Start]:
        found = self._store.starts(watched.ref, limit=MAX_LISTED) if watched.ref else ()
        told = [start for start in found if start.policy == watched.policy.name and start.kind in KINDS]
        return told[:LISTED_STARTS]

    # --- alerts

    def deliveries(self, *, rollout: Rollout | None, state: str | None, limit: int) -> Sequence[Delivery]:
        """What became of the alerts, newest first."""
        return self._store.deliveries(rollout.id if rollout else None, state=state, limit=min(limit, MAX_LISTED))


def _refuse_far_folders(manifest: Manifest | None) -> None:
    """What was sent names nothing on a disk: the daemon's is not its author's. Raises PolicyError."""
    if manifest is not None and manifest.folder is None and manifest.local:
        raise PolicyError(
            f"candidate: {manifest.path} names files on a disk ({', '.join(manifest.local)}), and the daemon reads those only "
            "beside the policies in its own folder: put both there and start it by its name (`rollout start NAME`), or "
            "register them in Azure ML and write `azureml:NAME:VERSION`."
        )
