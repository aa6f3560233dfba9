"""A policy in the making: what was found in somebody else's file, and what of it a policy cannot say.

The rule: the draft keeps what a policy allows (rising shares that end at 100 %, bakes in whole minutes, a deadline that
they fit into) and tells everything that it had to bend.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from textwrap import wrap

from rollout.documents.text import parse_scalar
from rollout.documents.units import format_duration, show
from rollout.policy.importing.node import Node
from rollout.policy.model import MAX_STEPS

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LONGEST_BAKE, LONGEST_ROLLOUT = 7 * DAY, 30 * DAY
USUAL_BAKE, USUAL_LAST_BAKE = timedelta(minutes=15), timedelta(minutes=30)
SHORT_BAKE = timedelta(minutes=5)
USUAL_DEADLINE = 8 * HOUR
HOLDBACK = 5
WIDTH = 110
PLACEHOLDER = "my-endpoint"


@dataclass(kw_only=True)
class Share:
    """A share with its bake (None: the usual one), and whether a person approves before it begins."""

    traffic: int
    bake: timedelta | None = None
    approve: bool = False
    told: str = ""  # what it was in the other file


@dataclass(kw_only=True)
class Bound:
    """An absolute bound of a check, as a policy writes it."""

    written: str  # `5%` or `800ms`
    told: str


@dataclass(kw_only=True)
class Draft:
    """Collects a policy."""

    endpoint_name: str = PLACEHOLDER
    endpoint_from: str = "the file names none: write the name of your endpoint"
    shares: list[Share] = field(default_factory=list)
    bounds: dict[str, Bound] = field(default_factory=dict)  # check -> its `max`
    deadline: timedelta | None = None
    deadline_from: str = ""
    holdback: int = HOLDBACK
    notes: list[tuple[Node | None, str]] = field(default_factory=list)  # where it stands, what and why

    # --- what converters say

    def note(self, node: Node | None, message: str) -> None:
        """What could not be carried over, and why."""
        self.notes.append((node, message))

    def named(self, name: Node | None, *, what: str) -> None:
        """The endpoint's name, from the name of something else."""
        found = name.text() if name else ""
        fitting = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9]+", "-", found)).strip("-")
        fitting = re.sub(r"^[0-9-]+", "", fitting)[:32].rstrip("-")
        if len(fitting) >= 3:
            self.endpoint_name = fitting
            self.endpoint_from = f"{what}: write the name of your endpoint"

    def bound(self, check: str, written: str, told: str, node: Node) -> None:
        """A `max` of a check; the first one of each stands."""
        if check in self.bounds:
            self.note(
                node, f"a second bound of {check}, {written}: a check has one `max`, {self.bounds[check].written}"
            )
            return
        self.bounds[check] = Bound(written=written, told=told)

    def baked(self, bake: timedelta, node: Node | None) -> timedelta:
        """A bake in whole minutes, between one and a week."""
        whole = max(MINUTE, ceil(bake / MINUTE) * MINUTE)
        if whole > LONGEST_BAKE:
            self.note(
                node, f"{format_duration(whole)} is longer than the longest bake: {format_duration(LONGEST_BAKE)}"
            )
            return LONGEST_BAKE
        if whole != bake:
            was = format_duration(bake) if bake >= timedelta(seconds=1) else "less than a second"
            self.note(node, f"{was} became a bake of {format_duration(whole)}: data is judged in whole minutes")
        return whole

    # --- what a policy allows

    def settle(self) -> None:
        """Bend the shares, the holdback and the deadline until a policy may say them; tells each change."""
        self._rise()
        self._thin_out()
        self._hold_back()
        self._fit()

    def _rise(self) -> None:
        """Only rising shares, up to 100."""
        kept: list[Share] = []
        approve = False
        for share in self.shares:
            share.approve = share.approve or approve
            approve = False
            before = kept[-1].traffic if kept else 0
            if share.traffic > before:
                kept.append(share)
                continue
            approve = share.approve
            if kept and share.traffic == before:
                kept[-1].bake = (kept[-1].bake or timedelta()) + share.bake if share.bake else kept[-1].bake
            else:
                self.note(None, f"the share of {share.traffic}%: shares rise in a policy, and {before}% came before")
        if not kept or kept[-1].traffic < 100:
            kept.append(Share(traffic=100, approve=approve, told="the end"))
        self.shares = kept

    def _thin_out(self) -> None:
        """At most so many steps, with their approvals, as a policy may have."""
        shares = self.shares
        for count in range(min(len(shares), MAX_STEPS), 0, -1):
            kept = shares if count == len(shares) else [shares[at] for at in _evenly(len(shares), count)]
            if len(kept) + sum(share.approve for share in kept) <= MAX_STEPS:
                break
        if len(kept) < len(shares):
            self.note(None, f"{len(shares)} steps: a policy has at most {MAX_STEPS}, so they were thinned out evenly")
        lost = sum(share.approve for share in shares) - sum(share.approve for share in kept)
        if lost:
            self.note(None, f"{lost} approvals: they stood before steps that were thinned out")
        self.shares = kept

    def _hold_back(self) -> None:
        """Shares between the holdback and 100 % make it smaller."""
        highest = max((share.traffic for share in self.shares if share.traffic < 100), default=0)
        if highest > 100 - self.holdback:
            self.holdback = 100 - highest
            self.note(None, f"{highest}% leaves {self.holdback}% on stable: that is held back until the last bake ends")

    def _fit(self) -> None:
        """The bakes fit into the deadline."""
        for share in self.shares:
            share.bake = min(share.bake, LONGEST_BAKE) if share.bake else None
        usual = [USUAL_BAKE] * (len(self.shares) - 1) + [USUAL_LAST_BAKE]
        total = sum((share.bake or bake for share, bake in zip(self.shares, usual, strict=True)), timedelta())
        if total > LONGEST_ROLLOUT:
            each = max(MINUTE, LONGEST_ROLLOUT / len(self.shares) // MINUTE * MINUTE)
            self.note(
                None, f"the steps last {format_duration(total)} in all: at most {format_duration(each)} each, here"
            )
            for share, bake in zip(self.shares, usual, strict=True):
                share.bake = min(share.bake or bake, each)
            total = LONGEST_ROLLOUT
        least = min(LONGEST_ROLLOUT, max(10 * MINUTE, total))
        if self.deadline is not None and self.deadline < least:
            told = format_duration(self.deadline)
            self.note(None, f"the deadline of {told}: the bakes alone take {format_duration(total)}")
            self.deadline = None
        if self.deadline is None and total > USUAL_DEADLINE / 2:
            self.deadline, self.deadline_from = min(LONGEST_ROLLOUT, max(USUAL_DEADLINE, 2 * total)), "twice the bakes"
        if self.deadline is not None:
            self.deadline = min(self.deadline, LONGEST_ROLLOUT)

    # --- as text

    def told(self) -> Iterator[str]:
        """The notes, one line each, with their places."""
        yield from dict.fromkeys(
            _plain(f"{node.where}: {message}" if node else message) for node, message in self.notes
        )

    def written(self, *, tool: str, file: str) -> str:
        """The policy as a commented file."""
        self.settle()
        head = (
            f"Converted from {_plain(file)} by `rollout import --from {tool}`; look it through. What was an absolute threshold "
            "is a `max` here, and besides the candidate is compared with stable in the same minutes."
        )
        lines = wrap(head, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        lines += self._notes()
        lines += ["", _commented(f"endpoint_name: {_scalar(self.endpoint_name)}", self.endpoint_from), ""]
        lines += self._steps()
        if self.holdback != HOLDBACK:
            lines.append(f"holdback: {self.holdback}%")
        if self.deadline is not None:
            lines.append(_commented(f"deadline: {format_duration(self.deadline)}", self.deadline_from))
        return "\n".join([*lines, "", *self._checks()]) + "\n"

    def _notes(self) -> list[str]:
        """The notes as a comment, with the lines of the other file."""
        told = dict.fromkeys(f"{node.short}: {message}" if node else message for node, message in self.notes)
        lines = ["#", "# Not carried over, or not as it was:"] if told else []
        for note in told:
            lines += wrap(
                _plain(note), WIDTH, initial_indent="#   - ", subsequent_indent="#     ", break_on_hyphens=False
            )
        return lines

    def _steps(self) -> list[str]:
        lines = ["steps:"]
        for share in self.shares:
            lines += ["  - approve"] if share.approve else []
            bake = f", bake: {format_duration(share.bake)}" if share.bake else ""
            lines.append(_commented(f"  - {{traffic: {share.traffic}%{bake}}}", share.told))
        return lines

    def _checks(self) -> list[str]:
        """The usual checks, and those that have a bound."""
        usual = {"error_rate": "0.5pp", "latency_p95": "25%"}
        names = [*usual, *(check for check in self.bounds if check not in usual)]
        return ["checks:", *(self._check(name, usual) for name in names)]

    def _check(self, name: str, usual: Mapping[str, str]) -> str:
        bound = self.bounds.get(name)
        increase = usual.get(name, "25%" if name.startswith("latency") else "0.5pp")
        most = f", max: {bound.written}" if bound else ""
        return _commented(f"  {name}: {{max_increase: {increase}{most}}}", bound.told if bound else "")


def _evenly(count: int, kept: int) -> list[int]:
    """So many of the indexes below `count`, the last one among them."""
    return [round((at + 1) * count / kept) - 1 for at in range(kept)]


def _commented(text: str, comment: str) -> str:
    return f"{text:<44} # {_plain(comment)}" if comment else text


def _plain(text: str) -> str:
    """One line of characters that a comment may hold."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else "?" for one in line)[:500]


def _scalar(text: str) -> str:
    """As plain YAML, or in quotes where that would mean something else."""
    return text if isinstance(parse_scalar(text), str) else f"'{text}'"


def listed(names: Iterable[str]) -> str:
    """`a, b and c`, each short."""
    found = [show(name).strip('"') for name in names]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
