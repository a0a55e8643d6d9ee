"""The parameters of gradient training, shared by `zoo` and `finetune`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .section import Name, Section

BUDGET, ENSEMBLE = "budget", "ensemble"  # what a teacher is called besides the networks' names
RAND_AUGMENT = {"m": (0, 30), "n": (1, 8), "p": (0, 1), "mstd": (0, 1000), "mmax": (1, 30), "inc": (0, 1)}


def _rand_augment(notation: str) -> str:
    """`notation`, checked without timm, which takes seconds to import; nothing that timm would pass over in silence."""
    first, *parts = notation.split("-")
    found = [re.fullmatch(r"(?:([a-z]+)(\d+(?:\.\d+)?)|t(?:weights|3a|3aw))", part, re.ASCII) for part in parts]
    keys = [match[1] for match in found if match]
    if first != "rand" or None in found or not {key for key in keys if key} <= set(RAND_AUGMENT):
        raise ValueError("timm does not know it; e.g. rand-m9-mstd0.5-inc1")
    for match in (match for match in found if match and match[1]):
        least, most = RAND_AUGMENT[match[1]]
        if not least <= float(match[2]) <= most or ("." in match[2] and match[1] not in ("p", "mstd")):
            kind = "a number" if match[1] in ("p", "mstd") else "an integer"
            raise ValueError(f"{match[1]} should be {kind} from {least} to {most}")
    if len(set(keys)) < len(keys):
        raise ValueError("gives something twice")
    return notation


def _none_or_some(value: float) -> float:
    if value != 0 and value < 0.01:
        raise ValueError("should be 0 or at least 0.01")
    return value


Mix = Annotated[float, Field(ge=0, le=100), AfterValidator(_none_or_some)]


class Augmentation(Section):
    """Random changes of train images, off by default. `randaugment`: timm's notation, e.g. rand-m9-mstd0.5-inc1;
    `mixup`, `cutmix`: alpha of the Beta distribution, 0 = off.
    """

    crop_padding: int = Field(default=0, ge=0, le=128)  # pixels around the image before a random crop of its size
    flip: bool = False  # left-right, for half of the images
    randaugment: Annotated[str, Field(max_length=100), AfterValidator(_rand_augment)] | None = None
    mixup: Mix = 0.0
    cutmix: Mix = 0.0


class Training(Section):
    """AdamW with linear warm-up and cosine decay.

    `accumulate`: micro-batches of a batch, one in memory at a time, each with BatchNorm statistics of its own.
    `ema`: decay of an exponential moving average of the weights, which then is the result; smaller in the first steps.
    `distillation`: weight of the teacher's softened answers in the loss, of a training that has one (`Tuning`).
    """

    epochs: int = Field(ge=0, le=100_000)
    batch_size: int = Field(ge=2, le=65_536)  # a single image has no batch statistics
    learning_rate: float = Field(gt=0, le=1000)
    weight_decay: float = Field(ge=0, le=100)
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    clip_norm: float | None = Field(default=1.0, ge=1e-6, le=1e6)
    ema: float | None = Field(default=None, gt=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast on a GPU; the CPU computes in fp32
    accumulate: int = Field(default=1, ge=1, le=32_768)
    distillation: float = Field(default=0.0, ge=0, lt=1)
    temperature: float = Field(default=4.0, ge=0.01, le=1000)  # of the distillation
    augmentation: Augmentation = Augmentation()


class Tuning(Training):
    """A training that may have a teacher, where `distillation` is above 0.

    `teacher`: `budget` (the best network of the zoo within the budget), `ensemble` (the mean of the logits of all
    networks of the zoo that know the task's classes), or a network of the zoo that does, by name.
    """

    teacher: Name = BUDGET
