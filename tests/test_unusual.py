"""Networks that change things in place, keep state, share layers or differ in train mode: exact, or one line."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.trace import cost, graph
from lib.trace.duplicate import duplicate
from lib.trace.effects import after
from lib.trace.logits import logits
from tests import pico, thinned, unusual

IMAGES = torch.rand(3, *pico.IMAGE, generator=torch.Generator().manual_seed(1))


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", unusual.ALL)
@torch.no_grad()
def test_nodes_are_the_network_at_every_cut_and_leave_everything_alone(name: str) -> None:
    model, images = unusual.build(name), IMAGES.clone()
    model(IMAGES.clone())  # some leave something on themselves
    before, attributes = _state(model), {path: set(vars(module)) for path, module in model.named_modules()}
    chain = Chain(name, model, pico.IMAGE)
    chain.verify(images)
    assert len(chain) >= 2
    assert torch.equal(images, IMAGES)
    assert {path: set(vars(module)) for path, module in model.named_modules()} == attributes
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    expected = model(IMAGES.clone())
    for cut in range(1, len(chain)):
        front = chain[0:cut](images)
        kept = front.clone()
        assert torch.equal(chain.head(chain[cut : len(chain)](front)), expected)
        assert torch.equal(front, kept), "a part changes what enters it"
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("name", thinned(unusual.ALL, 2))
def test_copies_of_parts_learn_as_the_network_does(name: str) -> None:
    model = unusual.build(name)
    chain = Chain(name, model, pico.IMAGE)
    parts = nn.Sequential(duplicate(chain[0 : len(chain)]), copy.deepcopy(chain.head)).train()
    answers, gradients = [], []
    for network in (model.train(), parts):
        torch.manual_seed(3)
        answers.append(logits(network(IMAGES.clone())))
        if name not in unusual.CANNOT_LEARN:
            answers[-1].square().mean().backward()
        gradients.append([p.grad.abs().sum().item() for p in network.parameters() if p.grad is not None])
    assert torch.equal(*answers)
    assert sorted(gradients[0]) == pytest.approx(sorted(gradients[1]), rel=1e-4)
    assert len(gradients[0]) > 4 or name in unusual.CANNOT_LEARN
    statistics, own = dict(model.named_buffers()), dict(parts[0].named_buffers())
    assert all(torch.equal(own[name], statistics[name]) for name in own.keys() & statistics.keys())
    assert len(own) >= len([m for m in chain[0 : len(chain)].modules() if isinstance(m, nn.BatchNorm2d)])


def test_what_is_read_after_a_change_depends_on_it() -> None:
    found = graph.trace(unusual.build("view"), "view", pico.IMAGE)
    assert [node.target for node in found.graph.nodes].count(after) >= 1
    changed = {getattr(node.target, "__name__", node.target) for node in found.changes}
    assert {"mul_", "imul"} <= changed


def test_a_network_that_answers_differently_each_time_is_refused() -> None:
    class Counting(unusual.Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def between(self, x: torch.Tensor) -> torch.Tensor:
            self.get_buffer("calls").add_(1)
            return x + self.get_buffer("calls")

    model = Counting().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BrickyardError, match=r"^counting: .*differ"):
        Chain("counting", model, pico.IMAGE).verify(IMAGES)
    assert torch.equal(before["calls"], model.state_dict()["calls"])


def test_a_network_that_fails_in_train_mode_is_one_line() -> None:
    class Fails(unusual.Base):
        def between(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(1, 2, 3) if self.training else x

    with pytest.raises(BrickyardError, match=r"^fails: cannot be traced \(RuntimeError: shape"):
        Chain("fails", Fails().eval(), pico.IMAGE)


@pytest.mark.parametrize("name", thinned(unusual.ALL, 2, first=1))
def test_memory_of_parts_is_that_of_the_part_by_itself(name: str) -> None:
    model = unusual.build(name)
    chain = Chain(name, model, pico.IMAGE)
    for start in range(len(chain)):
        for stop in range(start + 1, len(chain) + 1):
            counted = cost.count(chain[start:stop], chain.layout(start).shape)
            assert chain.cost(start, stop).memory >= counted.memory


def test_what_goes_by_chance_is_left_inside_a_node_or_refused() -> None:
    """A trace would have one random number for all runs."""
    inside = Chain("net", unusual.Chancy(inside=True).eval(), pico.IMAGE)
    inside.verify(IMAGES)
    parts = nn.Sequential(*(inside[i : i + 1] for i in range(len(inside))), inside.head).train()
    answers = []
    for seed in range(8):
        torch.manual_seed(seed)
        answers.append(logits(parts(IMAGES.clone())))
    assert len({answer.sum().item() for answer in answers}) > 2
    with pytest.raises(
        BrickyardError, match=r"net: goes by random numbers that it draws by itself .*nodes: \["
    ) as caught:
        Chain("net", unusual.Chancy(inside=False).eval(), pico.IMAGE)
    assert "\n" not in str(caught.value)


class _Distracted(unusual.Auxiliary):
    """Draws random numbers for its second answer before it drops out units of the first."""

    def forward(self, x: torch.Tensor) -> Any:
        y = self.stem(x)
        second = self.second(nn.functional.dropout(y, 0.5, self.training)).mean((2, 3))
        answer = self.fc(nn.functional.dropout(self.body(y).mean((2, 3)), 0.5, self.training))
        return (answer, second) if self.training else answer


def test_random_numbers_of_an_auxiliary_output_do_not_count() -> None:
    chain = Chain("distracted", _Distracted().eval(), pico.IMAGE)
    chain.verify(IMAGES)
    parts = nn.Sequential(chain[0 : len(chain)], chain.head).train()
    assert not torch.equal(parts(IMAGES), parts(IMAGES)), "units are dropped in its nodes, too"
