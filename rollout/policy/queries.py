"""Queries of a policy's own checks: they count which requests were bad, minute by minute, for each deployment.

The rule: a query only reads, and only what the endpoint's own log workspace holds. What cannot change anything, leave the
workspace or call out is told by the text alone, so that `rollout lint` says it; what else is wrong with a query is Log
Analytics' to say (`rollout check try`).

A query returns the columns `minute` (a datetime, or minutes since 1970), `deployment`, `n` (requests looked at) and `bad`
(those of them that are bad), a row for each deployment and minute. `_endpoint` (the endpoint's resource id, lower case),
`_from` and `_to` (the time asked for) are there to be used.
"""

import re
from typing import Annotated

from pydantic import AfterValidator

from rollout.documents.units import show
from rollout.policy.attached import Attached

MAX_QUERY = 16 * 1024  # bytes

#: Strings and comments: what stands in them is no code.
_NO_CODE = re.compile(
    r"""```.*?```|~~~.*?~~~|@"(?:[^"\n]|"")*"|@'(?:[^'\n]|'')*'|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|//[^\n]*""",
    re.DOTALL,
)
_ELSEWHERE = re.compile(r"\b(workspace|app|resource|cluster|database|adx|arg)\s*\(")
_OUTSIDE = re.compile(r"\b(externaldata|external_data|external_table)\b")
_PLUGIN = re.compile(r"\bevaluate\b\s*(?:hint\.\w+\s*=\s*\w+\s*)*(\w+)?")
#: Plugins that only turn a table into another one.
PURE_PLUGINS = frozenset({"bag_unpack", "narrow", "pivot"})


def check_query(text: str) -> str:
    """The query without the blank lines around it. Raises ValueError where it may do more than read its own workspace."""
    query = text.replace("\r\n", "\n").strip()
    if len(query.encode()) > MAX_QUERY:
        raise ValueError(f"the query has {len(query.encode()):,} bytes: write at most {MAX_QUERY // 1024} KiB")
    code = _NO_CODE.sub(" ", query)
    statements = [statement.strip() for statement in code.split(";")]
    if not any(statements):
        raise ValueError("the query is empty: write one that returns minute, deployment, n and bad")
    command = next((statement for statement in statements if statement.startswith(".")), None)
    if command is not None:
        raise ValueError(f"{show(command.split()[0])} is a management command: a check only reads; write a query")
    _refuse_far_data(code)
    return query


def _refuse_far_data(code: str) -> None:
    if found := _ELSEWHERE.search(code):
        raise ValueError(
            f"{found[1]}(…) reads another resource: a check reads the log workspace of its endpoint; name the table alone"
        )
    if found := _OUTSIDE.search(code):
        raise ValueError(
            f"{found[1]} fetches data from outside: a check reads the log workspace of its endpoint; take it out"
        )
    for found in _PLUGIN.finditer(code):
        if found[1] not in PURE_PLUGINS:
            known = ", ".join(sorted(PURE_PLUGINS))
            raise ValueError(
                f"`evaluate {found[1] or '…'}` may call out or run code: a check only reads (allowed are {known})"
            )


Query = Annotated[str, AfterValidator(check_query)]
#: The name of a file in a policy as written; what is validated is the query in it.
AttachedQuery = Annotated[Attached, AfterValidator(check_query)]
