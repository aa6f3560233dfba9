"""A deployment's file as a template: the same for every version of a model, but for its name and the model.

The rule: that of `manifest.py`: the policy holds the text, and what the fields mean is azure-ai-ml's to say. Rendering changes
two fields, and leaves every other value as it is written.
"""

from typing import Annotated, Self

import yaml
from pydantic import Field, field_validator, model_validator

from rollout.documents.models import Model
from rollout.documents.names import AzureName
from rollout.documents.units import show
from rollout.policy.attached import MAX_NAME, FileText, NamedFile
from rollout.policy.manifest import INLINE, Manifest

#: What a template leaves to each deployment, and to the policy.
_OWN = frozenset({"name", "endpoint_name", "model"})


class Names(Model):
    """The pair of names that deployments take in turn."""

    names: tuple[AzureName, AzureName] = Field(
        description="The next deployment gets the name without traffic", examples=[["blue", "green"]]
    )

    @field_validator("names")
    @classmethod
    def _two(cls, value: tuple[str, str]) -> tuple[str, str]:
        if value[0].casefold() == value[1].casefold():
            raise ValueError(f"{show(value[0])} stands twice: write two names")
        return value


class Template(Names):
    """A template's text; `path` is its name beside the policy, `folder` the policy's own where a daemon may look there."""

    path: Annotated[str, Field(max_length=MAX_NAME)] = INLINE
    text: str
    folder: str | None = None

    def manifest(self, *, name: str, model: str) -> Manifest:
        """The file of the deployment of this name that serves this model (a reference, `azureml:NAME:VERSION`)."""
        return Manifest(name=name, path=self.path, text=with_model(self.text, model), folder=self.folder)


class WrittenTemplate(Names):
    """The deployment's file that serves each new version, and the names that it takes in turn."""

    file: NamedFile | None = Field(
        default=None,
        description="A deployment's file in `az ml` format, beside the policy; its names and its `model` are replaced",
        examples=["deployments/template.yml"],
    )
    text: str | None = Field(default=None, description="The same as text; it names registered assets only")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        given = [value for value in (self.file, self.text) if value]
        if len(given) != 1:
            what = "has no file" if not given else "is written twice"
            raise ValueError(f"{what}: write `file: deployments/template.yml`")
        with_model(self.given.text, "azureml:any:1")
        return self

    @property
    def given(self) -> FileText:
        """The file with its name."""
        return self.file or FileText(INLINE, self.text or "")

    def template(self, *, folder: str | None) -> Template:
        """What this means."""
        return Template(names=self.names, path=self.given.name, text=self.given.text, folder=folder)


def with_model(text: str, model: str) -> str:
    """A deployment's file without its names, serving this model. Raises ValueError where the text is no such file."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        place = f" (line {where.line + 1})" if where else ""
        raise ValueError(f"the template is not YAML{place}: correct it") from None
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("the template has no fields: write a deployment's file, as for `az ml online-deployment`")  # noqa: TRY004
    kept = [(key, value) for key, value in node.value if getattr(key, "value", None) not in _OWN]
    tag = "tag:yaml.org,2002:str"
    named = (yaml.ScalarNode(tag, "model"), yaml.ScalarNode(tag, model))
    node.value = [*kept, named]
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=1000))
