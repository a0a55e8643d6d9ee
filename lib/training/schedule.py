"""How training goes from step to step: its learning rate, and the average of its weights."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim.swa_utils import get_ema_multi_avg_fn


def factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of all steps, then a cosine to zero."""
    warm = warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def moving(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average whose decay after n updates is (1 + n) / (10 + n) at most: it forgets the random
    start even in a short run.
    """

    def update(averaged: Any, current: Any, count: Any) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averaged, current, count)

    return update
