"""The trigger on a schedule: a time comes, and what waits without traffic is rolled out.

The rule: of the times that passed since the last look, only the last one counts: after hours without a daemon a schedule
runs once, not for every time that was missed. A time of the day that comes twice (the clocks go back) counts once, one that
is skipped (they go forward) counts an hour later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger

from rollout.policy import Manifest, ScheduleTrigger
from rollout.policy.triggers import WEEKDAYS
from rollout.ports import Start
from rollout.triggers.scene import Scene

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: What was missed for longer is not made up; shorter than the store remembers what was.
MADE_UP = 7 * DAY
#: How far back the last time is looked for, the nearest first: an expression that is due often is due in the last hour.
_BACK = (HOUR, DAY, MADE_UP)
#: More than a schedule can be due in an hour, or, where it was not in the last hour, in a day.
_MOST = 24 * 60


def last_due(schedule: ScheduleTrigger, *, after: datetime, until: datetime) -> datetime | None:
    """The last time in (after, until] at which the schedule is due, in its zone; None where it is not."""
    cron = _cron(schedule)
    for back in _BACK:
        start = max(after, until - back)
        found = _last(cron, start, until)
        if found is not None or start == after:
            return found
    return None


def next_due(schedule: ScheduleTrigger, *, after: datetime) -> datetime | None:
    """The next time at which it is due; None where that never comes."""
    return _next(_cron(schedule), after)


def _last(cron: CronTrigger, start: datetime, until: datetime) -> datetime | None:
    found, at = None, _next(cron, start)
    for _ in range(_MOST):
        if at is None or at > until:
            break
        found, at = at, _next(cron, at)
    return found


def _next(cron: CronTrigger, after: datetime) -> datetime | None:
    """Asked in UTC: the times of a zone cannot be added to where its clocks change."""
    found: datetime | None = cron.get_next_fire_time(None, after.astimezone(UTC) + timedelta(seconds=1))
    return found


def _cron(schedule: ScheduleTrigger) -> CronTrigger:
    minute, hour, day, month, weekday = schedule.expression.split()
    return CronTrigger(
        minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=schedule.time_zone
    )


def _weekdays(field: str) -> str:
    """Cron's weekdays (0 and 7 are Sunday) by name: to APScheduler, 0 is Monday, and a week ends with Sunday."""
    if field == "*":
        return field
    return ",".join(WEEKDAYS[day % 7] for part in field.split(",") for day in _days(part))


def _days(part: str) -> Iterator[int]:
    days, _, every = part.partition("/")
    first, _, last = ("0", "", "6") if days == "*" else days.partition("-")
    start = _day(first)
    end = _day(last) if last else start
    yield from range(start, (end if end >= start else end + 7) + 1, int(every or 1))


def _day(text: str) -> int:
    return int(text) if text.isdigit() else WEEKDAYS.index(text)


def key_of(scene: Scene, due: datetime) -> str:
    """A time of the day is told without its offset: where it comes twice, it is the same."""
    return f"schedule/{scene.ref.workspace}/{scene.ref.name}/{scene.policy.name}/{due:%Y-%m-%dT%H:%M}"


def came(scene: Scene, *, after: datetime) -> Iterator[Start]:
    """The last time that has come since `after`, with what is to be rolled out then, or why nothing is."""
    schedule = scene.policy.trigger.schedule if scene.policy.trigger else None
    after = max(after, scene.now - MADE_UP)
    due = last_due(schedule, after=after, until=scene.now) if schedule else None
    if schedule is None or due is None:
        return
    yield Start(
        key=key_of(scene, due),
        ref=scene.ref,
        policy=scene.policy.name,
        kind="schedule",
        what=f"the schedule of {due:%Y-%m-%d %H:%M} {schedule.time_zone}",
        at=scene.now,
    )


@dataclass(frozen=True)
class NothingToDo:
    """Why a schedule rolls out nothing, in words."""

    why: str


def chosen(scene: Scene) -> str | NothingToDo:
    """The name of what a schedule rolls out now: the one deployment that waits, or the one that the policy creates."""
    if scene.policy.manifest is not None:
        return _created(scene, scene.policy.manifest)
    idle = [found for found in scene.deployments() if scene.fits(found)]
    new = [found.name for found in idle if scene.spent(found) is None]
    if len(new) == 1:
        return new[0]
    if new:
        return NothingToDo(f"{' and '.join(new)} wait without traffic: name one as `candidate` in the policy")
    told = [f"{found.name}: {spent}" for found in idle if (spent := scene.spent(found))]
    return NothingToDo(f"nothing new waits ({'; '.join(told)})" if told else "no deployment waits without traffic")


def _created(scene: Scene, manifest: Manifest) -> str | NothingToDo:
    """A file that was rolled out once is not rolled out again until it changes."""
    if scene.traffic.share(manifest.name):
        return NothingToDo(f"nothing new waits ({manifest.name}: it serves)")
    for rollout in scene.rollouts:
        before = rollout.policy.manifest
        if before is not None and before.digest == manifest.digest:
            return NothingToDo(f"nothing new waits ({manifest.path} is that of rollout {rollout.id})")
    return manifest.name
