"""Why a query was refused, in Log Analytics' words (recorded: BadArgumentError > SemanticError > SEM0100).

The rule: the message names the operator, the table or the column; and what Log Analytics could run but this engine
can't is said to be so.
"""

import re

import duckdb
import duckdb_kql

_MISSING_TABLE = re.compile(r"Table with name (\S+) does not exist")
_MISSING_COLUMN = re.compile(
    r'Referenced column "([^"]+)" not found|Column "([^"]+)" referenced|does not have a column named "([^"]+)"'
)
_POSITION = re.compile(r"at (\d+):(\d+)")
_OPERATOR = re.compile(r"^\s*([a-z][a-z-]*)")


class QueryError(Exception):
    """The query was refused. `kind`: SemanticError or SyntaxError; `code`: SEM0100, SYN0002 and the like."""

    def __init__(self, message: str, *, kind: str = "SemanticError", code: str = "SEM0100") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.code = code


def syntax_error(message: str) -> QueryError:
    """What cannot be parsed."""
    return QueryError(message, kind="SyntaxError", code="SYN0002")


def refusal(error: Exception, text: str) -> QueryError:
    """The refusal that Log Analytics would answer where this engine failed with `error`."""
    if isinstance(error, duckdb_kql.KqlSyntaxError):
        position = _POSITION.search(str(error))
        where = f" on line [{position[1]},{position[2]}]" if position else ""
        return syntax_error(f"Query could not be parsed{where}: {str(error).partition(': ')[2][:200]}")
    if isinstance(error, duckdb_kql.KqlUnsupportedError):
        return QueryError(
            f"'{_construct(error.construct)}': the sandbox's query engine does not know it. (Log Analytics may.)"
        )
    if isinstance(error, duckdb_kql.KqlSchemaError):
        return QueryError(
            f"{_operator_at(text, error.name)}Failed to resolve table or column expression named '{error.name}'"
        )
    return _from_duckdb(error, text)


def _from_duckdb(error: Exception, text: str) -> QueryError:
    message = str(error)
    if table := _MISSING_TABLE.search(message):
        return QueryError(
            f"{_operator_at(text, table[1])}Failed to resolve table or column expression named '{table[1]}'"
        )
    if isinstance(error, duckdb.BinderException) and (column := _MISSING_COLUMN.search(message)):
        name = next(group for group in column.groups() if group)
        return QueryError(f"Failed to resolve scalar expression named '{name}'")
    summary = message.splitlines()[0] if message else type(error).__name__
    return QueryError(f"The sandbox's query engine could not run the query: {summary}", code="SEM0000")


def _unresolved(name: str, text: str) -> QueryError:
    return QueryError(f"{_operator_at(text, name)}Failed to resolve table or column expression named '{name}'")


def _construct(name: str) -> str:
    """The construct as it is written: `make-series` for MakeSeriesOperator, `make_bag` for aggregate:make_bag."""
    name = name.partition(":")[2] or name
    operator, found, _ = name.partition("Operator")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", operator).lower() if found else name


def _operator_at(text: str, table: str) -> str:
    """`'where' operator: ` for a table that is first used by `where`."""
    _, found, rest = text.partition(table)
    operator = _OPERATOR.match(rest.lstrip().removeprefix("|")) if found else None
    return f"'{operator[1]}' operator: " if operator else ""
