"""Gradient training: one loop for zoo networks, stitches and reassembled networks."""

import math
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from ..base import code, halving, resume
from ..base.artifacts import tensor_checksum
from ..base.errors import BrickyardError
from ..base.progress import track
from ..images.data import Batch, Loader
from ..params.training import Training
from ..trace.duplicate import duplicate
from ..trace.logits import logits
from .augment import Augment
from .distillation import soft_targets
from .schedule import factor, moving
from .team import Division, Team, divide, team


def fit(
    model: nn.Module,
    train: Loader,
    settings: Training,
    seed: int,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    still: Collection[nn.Module] = (),
    validate: Callable[[nn.Module], float] | None = None,
    teacher: nn.Module | None = None,
    scratch: Path | None = None,
    what: str = "training",
    rate: str = "learning_rate",
) -> list[dict[str, float]]:
    """Trains `model` in place and returns the learning curve, one row an epoch.

    parameters: those that learn; modules that hold others too stay in eval mode (frozen BatchNorm, no dropout). By
        default all that require gradients, in train mode.
    still: modules that stay in eval mode whatever learns.
    validate: accuracy of a network in percent, measured after each epoch.
    teacher: answers the same batches, for distillation: the loss is then (1 - w) times that of the labels plus w times
        `soft_targets`, w = `settings.distillation`.
    scratch: a folder for the state after each epoch; a run that was killed goes on from there to the same result.
    what: is learning, for progress and errors.
    rate: the key of its learning rate, likewise.

    Where a launcher has started several processes, each calls this alike, sees a share of every batch, and comes to the
    same weights; BatchNorms take their statistics over whole micro-batches. The first writes states.

    Raises BrickyardError at the first loss that is not finite, after an epoch that leaves weights that are not, without
    epochs or anything that learns, for distillation without a teacher, and for batches too small to be divided.
    """
    if settings.epochs == 0:
        raise BrickyardError(f"{what}: epochs = 0; at least 1 to train it here")
    if settings.distillation > 0 and teacher is None:
        raise BrickyardError(f"{what}: distillation = {settings.distillation:g}, but there is no teacher; set it to 0")
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    learning = [own for own, learns in before if learns] if parameters is None else list(parameters)
    if not learning:
        raise BrickyardError(f"{what}: nothing learns: every parameter has requires_grad=False")
    together = team(learning[0].device, seed)
    least = 2 * settings.accumulate * together.count
    if settings.batch_size < least:
        parts = [f"accumulate = {settings.accumulate}", *[f"{together.count} processes"] * (together.count > 1)]
        raise BrickyardError(
            f"{what}: batch_size = {settings.batch_size}: should be at least 2 x {' x '.join(parts)}, which is {least}"
        )
    ids = {id(parameter) for parameter in learning}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in ids)
    ids |= {id(own) for own, learns in before if parameters is None and not learns}
    run = _Run(model, train, settings, seed, learning, ids, still, teacher, what, scratch, rate, together)
    key = _key(run) if scratch is not None else ""
    if scratch is not None:
        state = together.told(resume.load(scratch, key) if together.rank == 0 else None)
        if state is not None:
            run.load_state_dict(state)
    epochs = range(settings.epochs)
    for epoch in track(epochs, what) if together.rank == 0 else epochs:
        if epoch < len(run.curve):
            continue
        row = {"epoch": epoch + 1, "loss": run.epoch(epoch)}
        run.curve.append(row if validate is None else {**row, "validation_accuracy": validate(run.result)})
        if scratch is not None:
            state = run.state_dict()
            if together.rank == 0:
                resume.save(scratch, key, state)
    together.release()
    if run.averaged is not None:
        model.load_state_dict(run.averaged.module.state_dict())
    for parameter, learns in before:
        parameter.requires_grad_(learns)
    model.eval()
    return run.curve


class _Run:
    """The state of a training run."""

    def __init__(
        self,
        model: nn.Module,
        train: Loader,
        settings: Training,
        seed: int,
        learning: list[nn.Parameter],
        ids: set[int],
        still: Collection[nn.Module],
        teacher: nn.Module | None,
        what: str,
        scratch: Path | None,
        rate: str,
        together: Team,
    ):
        self.model, self.train, self.settings, self.seed = model, train, settings, seed
        self.what, self.scratch, self.rate = what, scratch, rate
        self.learning, self.ids, self.still, self.teacher = learning, ids, still, teacher
        self.together = together
        self.device = learning[0].device
        self.augment = Augment(settings.augmentation, train, settings.label_smoothing, seed)
        decayed = [p for p in learning if p.ndim > 1]
        plain = [p for p in learning if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            fused=self.device.type in ("cpu", "cuda"),  # one kernel instead of a dozen for each tensor
        )
        total = settings.epochs * train.steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: factor(step, total, settings.warmup)
        )
        self.averaged = None
        if settings.ema is not None:
            self.averaged = AveragedModel(duplicate(model), multi_avg_fn=moving(settings.ema), use_buffers=True).eval()
        self.forward = together.forward(model)
        self.curve: list[dict[str, float]] = []

    @property
    def result(self) -> nn.Module:
        """The network as it would be returned now."""
        return self.model if self.averaged is None else self.averaged.module

    def epoch(self, epoch: int) -> float:
        """Trains one epoch; returns the mean loss."""
        _train_mode(self.model, self.ids)
        for module in self.still:
            module.eval()
        losses, images = 0.0, 0
        share = None if self.together.count == 1 else lambda n: self._division(n).rows
        batches = self.train.shuffled(self.seed, epoch, self.augment.image_change(epoch), share)
        for step, (x, y) in enumerate(batches):
            n = min(self.train.step_size, len(self.train.index) - step * self.train.step_size)
            if n == 1:  # a left-over single image has no batch statistics
                continue
            division = self._division(n)
            x, y = self.augment.batch(x.to(self.device), y.to(self.device), epoch, step, division.rows, n)
            try:
                loss = self._gradients(x, y, division)
            except (MemoryError, RuntimeError) as error:
                if not halving.wanting(error):
                    raise
                raise BrickyardError(self._wanting(n)) from None
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is not finite at step {step + 1} of epoch {epoch + 1}", epoch)
            self._step()
            losses, images = losses + loss * self.augment.left(n), images + self.augment.left(n)
        self.model.eval()
        self.together.even(self.model)
        if not all(torch.isfinite(tensor).all() for tensor in self.model.state_dict().values()):
            raise self._diverged(f"weights are not finite after epoch {epoch + 1}", epoch)
        return losses / images

    def _wanting(self, n: int) -> str:
        """That memory does not suffice for a step: to divide it changes what BatchNorms see, so the user decides."""
        key, times = self.rate.removesuffix("learning_rate"), 2 * self.settings.accumulate
        mended = f"lower {key}batch_size"
        if 2 * times * self.together.count <= self.settings.batch_size:
            mended = f"set {key}accumulate = {times}, or {mended}"
        return f"{self.what}: not enough memory for a step of {n} images; {mended}"

    def _diverged(self, what: str, epochs: int) -> BrickyardError:
        kept = f"; the state after epoch {epochs} is kept for the same settings" if epochs and self.scratch else ""
        return BrickyardError(f"{self.what}: {what}; lower {self.rate} = {self.settings.learning_rate:g}{kept}")

    def _division(self, n: int) -> Division:
        """Of a batch of n images."""
        return divide(self.augment.left(n), self.settings.accumulate, self.together.rank, self.together.count)

    def _gradients(self, x: torch.Tensor, y: torch.Tensor, division: Division) -> float:
        """Makes those of a batch, and returns its loss; stops at a loss that is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        total, last = 0.0, len(division.parts) - 1
        for i, (rows, weight) in enumerate(division.parts):
            alone = len(rows) == len(y)
            with self.together.apart(self.forward) if i < last else nullcontext():
                with self.together.normalised(division):
                    loss = self._loss(x if alone else x[rows], y if alone else y[rows]) * weight
                total += self.together.mean(loss.detach())
                if not math.isfinite(total):
                    break
                loss.backward()
        return total

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        on_gpu = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16" and on_gpu):
            answers = self.forward(x)
        answers = answers.float()
        smoothing = settings.label_smoothing if y.ndim == 1 else 0.0  # mixed labels are smoothed already
        loss = F.cross_entropy(answers, y, label_smoothing=smoothing)
        if self.teacher is None or settings.distillation == 0:
            return loss
        with torch.no_grad():
            taught = self.teacher(x).float()
        apart = soft_targets(answers, taught, settings.temperature)
        return (1 - settings.distillation) * loss + settings.distillation * apart

    def _step(self) -> None:
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.learning, self.settings.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, in all processes."""
        on_gpu = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.schedule.last_epoch,
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "curve": self.curve,
            "generators": self.together.gathered((torch.get_rng_state(), on_gpu)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["steps"]
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.curve = state["curve"]
        own, on_gpu = state["generators"][self.together.rank]
        torch.set_rng_state(own)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.device)


def _key(run: _Run) -> str:
    """What a run depends on, before its first step."""
    parts = [run.model.state_dict(), {} if run.teacher is None else run.teacher.state_dict()]
    images = {"index": torch.from_numpy(run.train.index), "labels": torch.from_numpy(run.train.labels)}
    return resume.key_of(
        {
            "weights": [tensor_checksum(tensors) for tensors in (*parts, images)],
            "networks": [resume.made_of(network) for network in (run.model, run.teacher) if network is not None],
            "learning": [i for i, p in enumerate(run.model.parameters()) if p.requires_grad],
            "images": [run.train.images.checksum, resume.without_addresses(run.train.transform)],
            "settings": run.settings.model_dump(),
            "seed": run.seed,
            "batch": run.train.step_size,
            "device": str(run.device),
            "threads": torch.get_num_threads(),
            "processes": run.together.count,
            "code": code_digest(),
        }
    )


@cache
def code_digest() -> str:
    """SHA-256 of the code that a training runs."""
    return code.digest([Path(__file__)])


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Share of images whose largest logit is at their label, in percent; `model` in eval mode."""
    device = next(model.parameters()).device
    right = images = 0
    for x, y in batches:
        right += int((logits(model(x.to(device))).argmax(1).cpu() == y).sum())
        images += len(y)
    return 100 * right / images


def _train_mode(model: nn.Module, learning: set[int]) -> None:
    """Train mode, as the network itself understands it, for modules all of whose parameters learn; eval mode for the
    rest.
    """
    model.train()
    trained: set[nn.Module] = set()
    for module in model.modules():  # outer modules first: an inner one without parameters follows its parent
        own = [id(parameter) for parameter in module.parameters()]
        if own and all(parameter in learning for parameter in own):
            trained |= set(module.modules())
    for module in model.modules():
        module.training = module.training and module in trained
