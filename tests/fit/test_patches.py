import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from lib.fit.patches import patches

LAYERS = {
    "plain": nn.Conv2d(3, 5, 3, padding=1),
    "strided, oblong": nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0)),
    "dilated": nn.Conv2d(3, 5, 3, dilation=2, padding="same"),
    "reflected": nn.Conv2d(3, 5, 3, padding=2, padding_mode="reflect"),
    "padded as it runs": Conv2dSame(3, 5, 3, stride=2),
    "1 x 1": nn.Conv2d(3, 5, 1, stride=2),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_products_with_the_weights_are_the_outputs(layer: nn.Conv2d):
    x = torch.randn(4, 3, 7, 8)
    outputs = (layer(x) - layer.get_parameter("bias")[:, None, None]).flatten(2)
    weight = layer.weight.flatten(1).T
    found = (patches(x, layer) @ weight).unflatten(0, (4, -1)).transpose(1, 2)
    torch.testing.assert_close(found, outputs, rtol=1e-4, atol=1e-5)
    some = torch.tensor([0, 2, 5, outputs.shape[2] - 1])
    found = (patches(x, layer, some) @ weight).unflatten(0, (4, -1)).transpose(1, 2)
    torch.testing.assert_close(found, outputs[:, :, some], rtol=1e-4, atol=1e-5)
    assert torch.equal(patches(x, layer, torch.arange(outputs.shape[2])), patches(x, layer))
