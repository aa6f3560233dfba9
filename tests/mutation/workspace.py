"""A copy of the checkout in which mutmut may write.

The rule: only the copy is changed. mutmut (3.x) leaves decorated functions alone; as `@property` is only another way to
write `name = property(name)`, the copy says it that way, so that what properties decide is mutated, too.
"""

import json
import random
import shutil
from collections.abc import Iterable, Sequence
from contextlib import chdir
from fnmatch import fnmatch
from pathlib import Path

import libcst as cst
from mutmut.configuration import reset_config
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).parents[2]
COPY = ROOT / "build" / "mutation"
#: The rooms, and the unit tests that may kill a mutant of each; what starts servers and processes is left out.
ROOMS = {
    "analysis": "analysis_* answer_sizes validity replay whatif lifecycle_observing lifecycle_retold lifecycle_rehearsal forecast",
    "lifecycle": "lifecycle_* capacity retiring observing replay forecast plan plan_view whatif windows smoke",
    "policy": "policy* attached capacity importing* documents manifest retiring smoke trigger* windows",
    "windows": "windows lifecycle_gate",
}
COPIED = ("rollout", "tests", "policies", "docs", "pyproject.toml", "README.md")
UNWRAPPED = {"property", "cached_property"}

CONFIG = """
[tool.mutmut]
source_paths = ["rollout"]
only_mutate = {only}
pytest_add_cli_args = ["-p", "tests.mutation.plugin", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}
also_copy = ["policies", "docs", "README.md"]
process_isolation = "forkserver"
track_dependencies = false
use_git_change_detection = false
timeout_multiplier = 3.0
timeout_constant = 10.0
"""


class Unwrapped(cst.CSTTransformer):
    """`@property def name` as `def name` and `name = property(name)`."""

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        if len(updated_node.decorators) != 1:
            return updated_node
        wrapper = updated_node.decorators[0].decorator
        if not isinstance(wrapper, cst.Name) or wrapper.value not in UNWRAPPED:
            return updated_node
        name = updated_node.name.value
        wrapped = cst.parse_statement(f"{name} = {wrapper.value}({name})")
        return cst.FlattenSentinel([updated_node.with_changes(decorators=[]), wrapped])


def modules(patterns: Sequence[str]) -> list[Path]:
    """The files of the core that a pattern names: `analysis`, `lifecycle.guards`, `policy.*`; all where there is none."""
    found = [path for room in ROOMS for path in _files(ROOT / "rollout" / room)]
    names = {path: ".".join(path.relative_to(ROOT / "rollout").with_suffix("").parts) for path in found}
    wanted = [
        path
        for path in found
        if not patterns or any(fnmatch(names[path], f"{p}{end}") for p in patterns for end in ("", ".*"))
    ]
    if not wanted:
        raise SystemExit(f"No module is called {', '.join(patterns)}; there are: {', '.join(names.values())}")
    return [path.relative_to(ROOT) for path in wanted]


def _files(room: Path) -> list[Path]:
    """Those of a folder; the room itself where it is a single one."""
    alone = room.with_suffix(".py")
    return [alone] if alone.exists() else sorted(room.rglob("*.py"))


def prepare(files: Iterable[Path]) -> dict[Path, list[str]]:
    """Copy the checkout, and say which mutants each file has."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, COPY / name, ignore=ignored)
        else:
            shutil.copy(source, COPY / name)
    files = list(files)
    named = {name for file in files for name in ROOMS[file.parts[1].removesuffix(".py")].split()}
    tests = sorted(
        {str(path.relative_to(COPY)) for name in named for path in (COPY / "tests/unit").glob(f"test_{name}.py")}
    )
    with (COPY / "pyproject.toml").open("a", encoding="utf-8") as config:
        config.write(CONFIG.format(only=json.dumps([str(file) for file in files]), tests=json.dumps(tests)))
    with chdir(COPY):
        reset_config()
        return {file: names for file in files if (names := _mutants(file))}


def _mutants(file: Path) -> list[str]:
    text = cst.parse_module(file.read_text(encoding="utf-8")).visit(Unwrapped()).code
    file.write_text(text, encoding="utf-8")
    return [get_mutant_name(file, name) for name in mutate_file_contents(str(file), text).mutant_names]


def sample(mutants: dict[Path, list[str]], *, most: int, seed: int) -> dict[Path, list[str]]:
    """At most so many mutants of each file, drawn by chance; all where `most` is 0. A larger sample holds the smaller."""
    drawn = {}
    for file, names in mutants.items():
        shuffled = random.Random(f"{seed} {file}").sample(names, len(names))
        drawn[file] = sorted(shuffled[: most or None])
    return drawn
