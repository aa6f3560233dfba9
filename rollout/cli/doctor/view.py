"""Doctor's findings as JSON and for people.

The rule: the same findings in both; a remedy is printed as it stands, never folded, so that it can be copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rollout.azure.examining.facts import WorkspaceFacts
from rollout.cli.doctor.findings import Finding, Mark
from rollout.cli.terminal import Look, fold, pad

MARKS = {"ok": ("✔", "good"), "warning": ("‖", "warn"), "problem": ("✖", "bad")}
ORDER = (Mark.OK, Mark.WARNING, Mark.PROBLEM)
INDENT = 2


def view(judged: Sequence[tuple[WorkspaceFacts, Sequence[Finding]]]) -> dict[str, Any]:
    """All findings as plain values, with how bad the worst is."""
    found = [
        {
            "workspace": facts.name,
            "endpoint": each.endpoint,
            "check": each.check,
            "result": each.mark.value,
            "sentence": each.sentence,
            "remedy": list(each.remedy),
        }
        for facts, findings in judged
        for each in findings
    ]
    worst = max((ORDER.index(each.mark) for _, findings in judged for each in findings), default=0)
    counts = {mark.value: sum(each["result"] == mark.value for each in found) for mark in ORDER}
    return {"worst": ORDER[worst].value, "counts": counts, "findings": found}


def lines(told: Mapping[str, Any], look: Look) -> list[str]:
    """The findings for people."""
    width = max((len(each["check"]) for each in told["findings"]), default=0)
    shown: list[str] = []
    place = None
    for each in told["findings"]:
        here = (each["workspace"], each["endpoint"])
        if here != place:
            head = f"Endpoint {each['endpoint']}" if each["endpoint"] else f"Workspace {each['workspace']}"
            shown += [*([""] if shown else []), look.paint(head, "bold")]
            place = here
        shown += _finding(each, look, width)
    return [look.characters(line) for line in [*shown, "", _sum(told, look)]]


def _finding(each: Mapping[str, Any], look: Look, width: int) -> Iterator[str]:
    sign, colour = MARKS[each["result"]]
    margin = INDENT + width + INDENT
    folded = fold(each["sentence"], max(30, look.width - margin))
    for at, line in enumerate(folded):
        yield f"{look.paint(sign, colour)} {pad(each['check'], width)}  {line}" if not at else " " * margin + line
    for line in each["remedy"]:
        yield f"{' ' * margin}{look.paint(line, 'info')}"


def _sum(told: Mapping[str, Any], look: Look) -> str:
    counts = told["counts"]
    if told["worst"] == "ok":
        return look.paint(f"All is well: {counts['ok']} checks.", "good")
    parts = [_count(counts["problem"], "problem"), _count(counts["warning"], "warning"), f"{counts['ok']} ok"]
    return look.paint(", ".join(part for part in parts if part) + ".", "bad" if counts["problem"] else "warn")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}" if number else ""
