"""Gradient training: one loop for zoo networks, stitches and reassembled networks."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from lib.data import Batch, Loader
from lib.errors import BrickyardError
from lib.params.training import Training
from lib.progress import track


def fit(
    model: nn.Module,
    train: Loader,
    settings: Training,
    seed: int,
    parameters: Iterable[nn.Parameter] | None = None,
    validate: Callable[[], float] | None = None,
    what: str = "training",
) -> list[dict[str, float]]:
    """Trains `model` in place and returns the learning curve, one row an epoch.

    parameters: those that learn, all by default; modules that hold others too stay in eval mode (frozen BatchNorm, no
    dropout). validate: accuracy in percent, measured after each epoch. Raises BrickyardError at the first loss that
    is not finite.
    """
    learning = list(model.parameters() if parameters is None else parameters)
    device = learning[0].device
    learning_ids = {id(parameter) for parameter in learning}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learning_ids)
    decayed = [p for p in learning if p.ndim > 1]
    plain = [p for p in learning if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.learning_rate,
    )
    total = settings.epochs * len(train)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, total, settings.warmup))
    loss_of = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    curve: list[dict[str, float]] = []
    for epoch in track(range(settings.epochs), what):
        _train_mode(model, learning_ids)
        losses, images = 0.0, 0
        for x, y in train.shuffled(seed, epoch):
            if len(y) == 1:  # a left-over single image has no batch statistics
                continue
            loss = loss_of(model(x.to(device)), y.to(device))
            if not torch.isfinite(loss):
                raise BrickyardError(f"{what}: the loss is not finite in epoch {epoch + 1}; lower the learning_rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            schedule.step()
            losses, images = losses + loss.item() * len(y), images + len(y)
        model.eval()
        row = {"epoch": epoch + 1, "loss": losses / images}
        curve.append(row if validate is None else {**row, "validation_accuracy": validate()})
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.eval()
    return curve


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Share of images whose largest logit is at their label, in percent; `model` in eval mode."""
    device = next(model.parameters()).device
    right = images = 0
    for x, y in batches:
        right += int((model(x.to(device)).argmax(1).cpu() == y).sum())
        images += len(y)
    return 100 * right / images


def _factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of all steps, then a cosine to zero."""
    warm = warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def _train_mode(model: nn.Module, learning: set[int]) -> None:
    """Train mode for modules all of whose parameters learn, eval mode for the rest."""
    model.eval()
    for module in model.modules():  # outer modules first: an inner one without parameters follows its parent
        own = [id(parameter) for parameter in module.parameters()]
        if own and all(parameter in learning for parameter in own):
            module.train()
