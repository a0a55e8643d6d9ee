"""`components`: the tasks whose components are cut out, how small, and how they are repaired."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .section import Classes, Fraction, Images, Name, Ridge, Section, Text
from .training import Training


class Task(Section):
    """Some classes of one network, written as in a zoo entry."""

    model: Name
    classes: Classes


class Size(Section):
    """A component's size as a fraction of its source's, in one of two units."""

    params: Fraction | None = None
    macs: Fraction | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> "Size":
        if (self.params is None) == (self.macs is None):
            raise ValueError("give either params or macs, a fraction of the source's")
        return self

    @property
    def target(self) -> tuple[float, Literal["params", "macs"]]:
        """The fraction and its unit."""
        return (self.params, "params") if self.params is not None else (float(self.macs or 0), "macs")


class Repair(Section):
    """How a component is repaired.

    method: what is fitted.
    ridge: lambda, relative to the mean diagonal of X'X.
    steps: further regressions where a ReLU follows.
    joint: rounds in which a layer and those that read it are fitted together.
    classifier: what it is fitted to, the source's logits or, after that, its answers.
    images: of a task, unlabelled.
    mirror: whether each is also looked at mirrored, left to right.
    classifier_ridge, classifier_images: lambda and number for the answers.
    """

    method: Literal["ridge", "bn", "none"] = "ridge"
    ridge: Ridge = 1e-2
    steps: Annotated[int, Field(ge=0, le=100)] = 4
    joint: Annotated[int, Field(ge=0, le=100)] = 2
    classifier: Literal["logits", "answers"] = "answers"
    images: Annotated[int, Field(ge=1, le=500)] = 500
    classifier_ridge: Ridge = 1e-3
    classifier_images: Images = 5000
    mirror: bool = False


class Student(Training):
    """A training of a component; its teacher is its source, restricted to the task's classes."""

    teacher: Literal["source"] = "source"


class Components(Section):
    """Tasks by name.

    size: of every component, by one factor on all thresholds, or None: thresholds as they are.
    keep: paths of modules of all networks that are taken apart whose channels always stay, and those of modules inside.
    tuning: a training of every component of two classes or more, after its repair, or None.
    """

    tasks: dict[Name, Task] = Field(min_length=1, max_length=1000)
    size: Size | None = None
    keep: list[Text] = Field(default_factory=list, max_length=1000)
    repair: Repair = Repair()
    tuning: Student | None = None
