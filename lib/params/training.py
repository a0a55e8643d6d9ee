"""The parameters of gradient training, shared by `zoo` and `finetune`."""

from typing import Literal

from pydantic import Field, field_validator

from lib.params.base import Section


class Augmentation(Section):
    """Random changes of train images, off by default. `randaugment`: timm's notation, e.g. rand-m9-mstd0.5-inc1;
    `mixup`, `cutmix`: alpha of the Beta distribution, 0 = off.
    """

    crop_padding: int = Field(default=0, ge=0)  # pixels around the image before a random crop of its size
    flip: bool = False  # left-right, for half of the images
    randaugment: str | None = None
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)

    @field_validator("randaugment")
    @classmethod
    def _known_to_timm(cls, value: str | None) -> str | None:
        if value is not None:
            from timm.data.auto_augment import rand_augment_transform

            try:
                rand_augment_transform(value, {})
            except (AssertionError, ValueError, KeyError):
                raise ValueError("timm does not know it; e.g. rand-m9-mstd0.5-inc1") from None
        return value


class Training(Section):
    """AdamW with linear warm-up and cosine decay.

    `ema`: decay of an exponential moving average of the weights, which then is the result; smaller in the first steps.
    `distillation`: weight of the teacher's softened answers in the loss; the teacher is the best zoo network within the
    budget (`finetune` only).
    """

    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=2)  # a single image has no batch statistics
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast on a GPU; the CPU computes in fp32
    distillation: float = Field(default=0.0, ge=0, lt=1)
    temperature: float = Field(default=4.0, gt=0)  # of the distillation
    augmentation: Augmentation = Augmentation()
