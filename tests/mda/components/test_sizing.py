import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.channels.cutting import Scales, cut
from lib.mda.components import sizing
from lib.mda.contributions.scores import gather
from lib.params.components import Size
from lib.trace import cost, graph
from tests.mda import networks, pico
from tests.mda.networks import SHAPE


@pytest.mark.parametrize("score", ["contribution", "random"])
@pytest.mark.parametrize(("unit", "target"), [("params", 0.5), ("params", 0.3), ("macs", 0.6)])
def test_target_size_is_hit(score: str, unit: str, target: float) -> None:
    model = networks.build("option_a")
    batches = {c: [(pico.images(6, 2, SHAPE), torch.full((6,), c))] for c in (0, 3)}
    size = Size(params=target) if unit == "params" else Size(macs=target)
    channels = sizing.sized(model, SHAPE, batches, pico.contributions(score=score), size, 0, "pico")
    kept = channels.kept([0, 3], "pico")
    assert kept["linear"] == (0, 3)
    whole, found = cost.count(model, SHAPE), cost.count(cut(model, kept, SHAPE), SHAPE)
    share = found.params / whole.params if unit == "params" else found.macs / whole.macs
    assert share == pytest.approx(target, rel=0.02)


def test_union_is_what_any_class_needs() -> None:
    model = networks.build("resnet")
    coupling = couple(graph.trace(model, "net", SHAPE), "net")
    params = pico.contributions()
    evidence = gather(
        model, coupling, {c: [(pico.images(6, 2, SHAPE), torch.full((6,), c))] for c in (0, 1, 2)}, params, 0
    )
    kept = sizing.union(evidence, [0, 2], params.thresholds) > 0
    single = [evidence.margins(c, params.thresholds) > 0 for c in (0, 2)]
    assert torch.equal(kept, single[0] | single[1])


def test_higher_thresholds_are_smaller_networks_and_too_small_a_target_is_refused() -> None:
    model = networks.build("resnet")
    coupling = couple(graph.trace(model, "net", SHAPE), "net")
    params = pico.contributions()
    evidence = gather(model, coupling, {0: [(pico.images(6, 2, SHAPE), torch.zeros(6, dtype=torch.int64))]}, params, 0)
    scales = Scales(model, coupling)
    found = [sizing.select(evidence, [0], params.thresholds, scales, t, "params", "pico") for t in (0.6, 0.3)]
    assert found[0].factor < found[1].factor
    assert found[0].share > found[1].share
    match = r"pico: components\.size: its smallest component has 0\.\d+ of the source's params; 0\.0001 cannot"
    with pytest.raises(BrickyardError, match=match):
        sizing.select(evidence, [0], params.thresholds, scales, 1e-4, "params", "pico")


def test_too_large_a_target_is_refused() -> None:
    """Of a network whose weights are mostly those of its logits, one class cannot be nearly all."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    coupling, params = couple(graph.trace(model, "net", (3, 8, 8)), "net"), pico.contributions()
    images = torch.rand(6, 3, 8, 8)
    evidence = gather(model, coupling, {0: [(images, torch.zeros(6, dtype=torch.int64))]}, params, 0)
    match = (
        r"pico: components\.size: its largest component has 0\.1\d+ of the source's params, .* 0\.9 cannot be reached"
    )
    with pytest.raises(BrickyardError, match=match):
        sizing.select(evidence, [0], params.thresholds, Scales(model, coupling), 0.9, "params", "pico")
