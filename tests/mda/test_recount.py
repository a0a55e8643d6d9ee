"""What was predicted of components and assemblies is what is counted of them."""

import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.channels.cutting import Scales, cut, indices
from lib.mda import recount
from lib.mda.choice.prices import shared
from lib.trace import cost, graph
from lib.trace.cost import Cost
from tests import pico, unusual
from tests.mda import networks


class Tied(nn.Module):
    """Two convolutions with one weight, a scale that two places share, and a layer that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.two.weight = self.one.weight
        self.norm, self.other = nn.PReLU(), nn.PReLU()
        self.other.weight = self.norm.weight
        self.unused, self.fc = nn.Linear(5, 5), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.other(self.two(self.norm(self.one(self.stem(x))))).mean((2, 3)))


MODELS = {
    "tied": Tied,
    "resnet": lambda: networks.build("resnet"),
    "option_a": lambda: networks.build("option_a"),
    "grouped": lambda: networks.build("grouped"),
    "excited": lambda: networks.build("excited"),
    "shared_block": lambda: unusual.build("shared_block"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_components_have_what_their_coupling_says(name: str, share: float) -> None:
    model = pico.alive(MODELS[name]())
    coupling = couple(graph.trace(model, name, pico.IMAGE), name)
    kept = indices(coupling, networks.some(coupling, share))
    made = cut(model, kept, pico.IMAGE)
    counted = recount.component("x", model, kept, made, pico.IMAGE)
    assert counted == cost.count(made, pico.IMAGE)
    classes = [str(row) for row in coupling.classifier.outputs]
    masks = {layer.name: torch.zeros(len(classes), len(layer.outputs), dtype=torch.bool) for layer in coupling.layers}
    for layer, rows in kept.items():
        masks[layer][:, list(rows)] = True
    supplied = shared(model, coupling, masks, classes).cost(classes)
    assert (supplied.params, supplied.macs) == (counted.params, counted.macs)


def test_another_network_than_predicted_is_an_error() -> None:
    model = pico.alive(pico.PicoResNet())
    coupling = couple(graph.trace(model, "net", pico.IMAGE), "net")
    everything = indices(coupling, range(coupling.count))
    half = cut(model, indices(coupling, networks.some(coupling, 0.5)), pico.IMAGE)
    with pytest.raises(
        BrickyardError, match=r"components\.tasks\.low has [\d,]+ params when it is counted, [\d,]+ were"
    ):
        recount.component("components.tasks.low", model, everything, half, pico.IMAGE)
    whole = Scales(model, coupling).cost(range(coupling.count))
    recount.check("lego", whole, whole, {"params": whole.params, "macs": None})
    with pytest.raises(BrickyardError, match="; its budget is"):
        recount.check("lego", whole, whole, {"params": whole.params - 1, "macs": None})
    with pytest.raises(BrickyardError, match="macs when it is counted"):
        recount.check("lego", whole, Cost(whole.params, whole.macs + 1))
