"""A candidate as a file in a policy: what is read, what is pinned, and what only the daemon's own disk may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.errors import PolicyError
from rollout.policy import Manifest, Policy, effective_yaml, parse_policy
from rollout.policy.attached import named

GREEN = "name: green\nendpoint_name: diners\nmodel: azureml:recommender:2\n"


def parse(candidate: str, text: str = GREEN, **more: str) -> Policy:
    return parse_policy(f"endpoint_name: diners\ncandidate: {candidate}\n", file="p.yaml", files=lambda _: text, **more)  # type: ignore[arg-type]


def told(candidate: str, text: str = GREEN) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse(candidate, text)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_file_is_pinned_with_its_name_and_text() -> None:
    found = parse("{file: deployments/green.yml}", folder="/srv/policies")
    assert found.candidate == "green"
    assert found.manifest == Manifest(name="green", path="deployments/green.yml", text=GREEN, folder="/srv/policies")
    assert Policy.model_validate_json(found.model_dump_json()) == found


def test_one_file_may_serve_for_several_names() -> None:
    found = parse("{file: deployments/next.yml, name: green-3}").manifest
    assert found is not None
    assert found.name == "green-3"
    assert found.digest != parse("{file: deployments/next.yml}").manifest.digest  # type: ignore[union-attr]


def test_what_is_written_out_reads_the_same() -> None:
    found = parse("{text: 'name: green'}")
    assert parse_policy(effective_yaml(found), file="p.yaml") == found


def test_the_file_is_sent_along() -> None:
    assert list(named({"candidate": {"file": "deployments/green.yml"}})) == ["deployments/green.yml"]


@pytest.mark.parametrize(
    ("candidate", "text", "message"),
    [
        ("{}", GREEN, "p.yaml:2:12: candidate: has no file: write `file: deployments/green.yml`"),
        (
            "{file: g.yml, text: x}",
            GREEN,
            "p.yaml:2:12: candidate: is written twice: write `file: deployments/green.yml`",
        ),
        (
            "{file: 3}",
            GREEN,
            "p.yaml:2:19: candidate.file: 3 is not the name of a file beside the policy: write one such as deployments/green.yml",
        ),
        (
            "[green]",
            GREEN,
            "p.yaml:2:12: candidate: a list cannot stand here: write a name, or `{file: deployments/green.yml}`",
        ),
        (
            "{file: g.yml}",
            GREEN.replace("diners", "menus"),
            'p.yaml:2:19: candidate.file: "g.yml" is about endpoint menus: correct one of the two',
        ),
        (
            "{file: g.yml}",
            "model: azureml:m:1\n",
            'p.yaml:2:19: candidate.file: "g.yml" has no `name`: write one there, or `name:` beside `file:`',
        ),
        (
            "{file: g.yml}\nstable: Green",
            GREEN,
            'p.yaml:2:12: candidate: "green" is the stable deployment too: name another one, or take one of them out',
        ),
        (
            "{file: g.yml}\nmode: observe",
            GREEN,
            "p.yaml:2:12: candidate: `mode: observe` writes nothing: write the name of a deployment",
        ),
    ],
)
def test_mistakes_are_told_at_their_places(candidate: str, text: str, message: str) -> None:
    assert told(candidate, text) == [message]


@pytest.mark.parametrize(
    ("fields", "local"),
    [
        (
            "model: azureml:m:1\nenvironment: azureml:e:1\ncode_configuration: {code: 'azureml:c:1', scoring_script: s.py}",
            (),
        ),
        ("model: azureml://registries/azureml/models/m/versions/1", ()),
        ("environment: {image: 'mcr.microsoft.com/x', conda_file: {dependencies: [python]}}", ()),
        ("model: {path: ../model, type: mlflow_model}", ("model",)),
        ("model: ../model", ("model",)),
        ("model: {name: m, version: 1}", ("model",)),
        ("code_configuration: {code: ../src, scoring_script: s.py}", ("code_configuration.code",)),
        ("environment: {image: x, conda_file: conda.yml}", ("environment",)),
        ("environment: file:env.yml", ("environment",)),
        ("code_configuration: {<<: {code: ../src}}", ("as far as can be told",)),
        ("model: [", ("as far as can be told",)),
    ],
)
def test_what_lies_on_a_disk_is_known(fields: str, local: tuple[str, ...]) -> None:
    assert Manifest(name="green", text=f"name: green\n{fields}\n").local == local


@given(st.text(max_size=80))
def test_any_text_can_be_looked_at(text: str) -> None:
    """What is in doubt is local."""
    assert isinstance(Manifest(name="green", text=text).local, tuple)
