"""The figures of a component or an assembly, always beside those of the sources (the honest control)."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from ..images.data import Batch
from ..network.scaling import Scaling
from ..zoo import ask

Answers = tuple[Float[torch.Tensor, "n outputs"], Int64[torch.Tensor, " n"]]  # logits and labels
BATCH_SIZE = 64  # images a forward pass; figures do not depend on it


@torch.no_grad()
def logits(model: nn.Module, batches: Iterable[Batch]) -> Answers:
    """Logits float32 [n, outputs] and labels int64 [n], both on the CPU; `model` in eval mode."""
    device = next(model.parameters()).device
    pairs = [(model(x.to(device)).cpu(), y) for x, y in batches]
    return torch.cat([found for found, _ in pairs]), torch.cat([label for _, label in pairs])


def accuracy(logits: Float[torch.Tensor, "n outputs"], labels: Int64[torch.Tensor, " n"]) -> float:
    """Share of images whose largest logit is at their label, in percent."""
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def balanced(logits: Float[torch.Tensor, "n outputs"], labels: Int64[torch.Tensor, " n"]) -> float:
    """The mean of the classes' accuracies, in percent."""
    return ask.balanced(logits.argmax(1) == labels, labels)


def auroc(scores: Float[torch.Tensor, " n"], positive: Bool[torch.Tensor, " n"]) -> float | None:
    """Area under the ROC curve of scores [n] for one class against the rest; None where there is no rest."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive.numpy(), scores.numpy()))


def component(
    source: Float[torch.Tensor, "n classes"],
    component: Float[torch.Tensor, "n outputs"],
    labels: Int64[torch.Tensor, " n"],
    outputs: Sequence[int],
) -> dict[str, dict[str, float | None]]:
    """A component beside its source, on the same images of the source's classes.

    source: logits [n, classes].
    component: logits [n, outputs].
    labels: [n], of the source, as `outputs` are.

    With several outputs: accuracy and balanced accuracy in percent on the images of the task's classes, of the source
    over all its classes, of the source restricted to the task's, and of the component. A component with one class
    answers it for every image: there, one-vs-rest AUROC on all images (source_all: of the class's probability, the
    others: of its logit).
    """
    if len(outputs) == 1:
        positive = labels == outputs[0]
        scores = {"source_all": source.softmax(1)[:, outputs[0]], "source_restricted": source[:, outputs[0]]}
        return {"auroc": {key: auroc(s, positive) for key, s in {**scores, "component": component[:, 0]}.items()}}
    chosen = torch.tensor(outputs)
    rows, own = (labels[:, None] == chosen).nonzero(as_tuple=True)
    return {
        name: {
            "source_all": of(source[rows], labels[rows]),
            "source_restricted": of(source[rows][:, chosen], own),
            "component": of(component[rows], own),
        }
        for name, of in (("accuracy", accuracy), ("balanced", balanced))
    }


def repaired(
    source: Float[torch.Tensor, "n classes"],
    before: Float[torch.Tensor, "n outputs"],
    after: Float[torch.Tensor, "n outputs"],
    labels: Int64[torch.Tensor, " n"],
    outputs: Sequence[int],
    tuned: Float[torch.Tensor, "n outputs"] | None = None,
) -> dict[str, dict[str, float | None]]:
    """`component` of one that was repaired and, maybe, tuned; under `unrepaired` and `untuned` what it had before.

    source, labels, outputs: as there.
    before, after: logits [n, outputs] before and after the repair.
    tuned: after a tuning, or None.
    """
    steps = {"unrepaired": before} if tuned is None else {"unrepaired": before, "untuned": after}
    found = {step: component(source, logits, labels, outputs) for step, logits in steps.items()}
    scores = component(source, after if tuned is None else tuned, labels, outputs)
    return scores | {step: {kind: own["component"] for kind, own in each.items()} for step, each in found.items()}


def assembly(
    logits: Float[torch.Tensor, "n outputs"],
    sources: Float[torch.Tensor, "n outputs"],
    labels: Int64[torch.Tensor, " n"],
    spans: Sequence[range],
    scale: Scaling,
    scale_sources: Scaling,
) -> dict[str, float | None]:
    """An assembled network beside its controls, accuracies in percent over all assembled classes.

    logits: [n, outputs], its own before scaling.
    sources: those of the whole sources side by side, restricted to the same classes.
    labels: [n].
    spans: the outputs of each component.
    scale, scale_sources: of either.

    Balanced ones are scaled. The means are those of the components' and the sources' accuracies on each component's
    classes; single classes are left out of them, and they are None where nothing is left.
    """
    return {
        "unscaled": accuracy(logits, labels),
        "scaled": accuracy(scale(logits), labels),
        "sources": accuracy(sources, labels),
        "sources_scaled": accuracy(scale_sources(sources), labels),
        "balanced": balanced(scale(logits), labels),
        "balanced_sources": balanced(scale_sources(sources), labels),
        "mean_component": _mean_on_own_classes(logits, labels, spans),
        "mean_source_restricted": _mean_on_own_classes(sources, labels, spans),
    }


def _mean_on_own_classes(logits: torch.Tensor, labels: torch.Tensor, spans: Sequence[range]) -> float | None:
    found = []
    for span in spans:
        rows = (labels >= span.start) & (labels < span.stop)
        if len(span) > 1:
            found.append(accuracy(logits[rows, span.start : span.stop], labels[rows] - span.start))
    return sum(found) / len(found) if found else None
