"""The parameters of gradient training, shared by `zoo` and `finetune`."""

from pydantic import Field

from lib.params.base import Count, Section


class Training(Section):
    """AdamW with linear warm-up and cosine decay."""

    epochs: int = Field(ge=0)
    batch_size: Count
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
