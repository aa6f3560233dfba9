"""What the documents show can be written as shown."""

import re
from pathlib import Path

import pytest
import yaml

from rollout.beside import Beside
from rollout.policy import parse_policy
from rollout.settings import parse_settings

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _blocks(kind: str) -> list[tuple[str, str]]:
    """The YAML blocks of all documents that have this key, without the indent of a list."""
    found = []
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for indent, text in BLOCK.findall(file.read_text(encoding="utf-8")):
            body = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
            parsed = yaml.safe_load(body)
            if isinstance(parsed, dict) and kind in parsed:
                found.append((file.name, body))
    return found


@pytest.mark.parametrize(("file", "text"), [*_blocks("endpoint_name"), *_blocks("waves")])
def test_every_policy_shown_is_a_policy(file: str, text: str) -> None:
    assert parse_policy(text, file=file, files=Beside(ROOT / "policies")).endpoint_name


def test_the_query_shown_is_that_of_the_example() -> None:
    shown = re.findall(r"^```kusto\n(.*?)^```$", (ROOT / "docs/checks.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    written = (ROOT / "policies/queries/empty-answers.kql").read_text("utf-8")
    assert shown == ["".join(line for line in written.splitlines(keepends=True) if not line.startswith("//"))]


@pytest.mark.parametrize(("file", "text"), _blocks("cloud"))
def test_all_settings_shown_are_settings(file: str, text: str) -> None:
    environ = {"TEAM_ML_URL": "json://127.0.0.1:9000", "HOOK_SECRET": "a-secret"}
    assert parse_settings(text, file=file, environ=environ).policies


def test_the_readme_shows_both() -> None:
    assert len([file for file, _ in _blocks("endpoint_name") if file == "README.md"]) >= 2
    assert len([file for file, _ in _blocks("cloud") if file == "README.md"]) >= 1


LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")  # within the checkout: no scheme


@pytest.mark.parametrize(
    "file", ["README.md", "CHANGELOG.md", *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_leads_somewhere(file: str) -> None:
    place = ROOT / file
    missing = [link for link in LINK.findall(place.read_text(encoding="utf-8")) if not (place.parent / link).exists()]
    assert missing == []
