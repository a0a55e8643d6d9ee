import torch
from torch import nn
from torch.nn import functional as F

from lib.fit import answers


def _problem() -> tuple[torch.Tensor, torch.Tensor, nn.Linear]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 4, generator=generator)
    logits = 2 * torch.randn(80, 5, generator=generator) + x @ torch.randn(4, 5, generator=generator)
    layer = nn.Linear(4, 3)
    nn.init.constant_(layer.weight, 0.1)
    nn.init.zeros_(layer.bias)
    return x, logits, layer


def _loss(weight: torch.Tensor, bias: torch.Tensor, ridge: float) -> torch.Tensor:
    x, logits, layer = _problem()
    answers = logits.double().softmax(1)
    target = torch.cat([answers[:, :3], answers[:, 3:].sum(1, keepdim=True)], 1)
    made = torch.cat([x.double() @ weight.double().T + bias.double(), logits[:, 3:].double().logsumexp(1)[:, None]], 1)
    pull = ridge * x.double().square().sum(0).mean() / len(x)
    return F.cross_entropy(made, target) + pull * (weight.double() - layer.weight.detach().double()).square().sum()


def test_it_is_the_optimum_of_what_it_says():
    x, logits, layer = _problem()
    for ridge in (1e-3, 1.0):
        found = [
            part.double().requires_grad_() for part in answers.refit(x, logits[:, :3], logits[:, 3:], layer, ridge)
        ]
        gradients = torch.autograd.grad(_loss(found[0], found[1], ridge), found)
        assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-4


def test_a_layer_that_answers_as_the_source_stays():
    x, _, layer = _problem()
    nn.init.normal_(layer.weight)
    with torch.no_grad():
        wanted = layer(x)
    for others in (torch.zeros(80, 0), torch.randn(80, 2)):
        weight, bias = answers.refit(x, wanted, others, layer, 1e-2)
        torch.testing.assert_close(weight, layer.weight.detach(), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(bias - bias.mean(), layer.bias.detach() - layer.bias.mean(), atol=1e-3, rtol=1e-3)


def test_a_layer_without_bias_gets_none():
    x, logits, _ = _problem()
    weight, bias = answers.refit(x, logits[:, :3], logits[:, 3:], nn.Linear(4, 3, bias=False), 1e-2)
    assert weight.shape == (3, 4)
    assert not bias.any()


def test_one_class_is_told_from_the_others():
    x, logits, _ = _problem()
    weight, bias = answers.refit(x, logits[:, :1], logits[:, 1:], nn.Linear(4, 1), 1e-3)
    with torch.no_grad():
        made = (x @ weight.T + bias - logits[:, 1:].logsumexp(1, keepdim=True)).sigmoid()
    wanted = logits.softmax(1)[:, :1]
    assert float((made - wanted).abs().mean()) < float((0.5 - wanted).abs().mean())
