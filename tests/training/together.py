"""What each of two processes runs in tests/training/test_processes.py: trains, and leaves what it found in a folder."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from lib.base import processes
from lib.images.data import Loader
from lib.images.sources import Images
from lib.params.training import Augmentation, Training
from lib.training.fit import fit
from stages import in_one_line
from tests import pico

SETTINGS = Training(epochs=2, batch_size=16, learning_rate=3e-3, weight_decay=0.05, warmup=0.1, label_smoothing=0.1)
AUGMENTED = Augmentation(crop_padding=2, flip=True, randaugment="rand-m9-mstd0.5-inc1", mixup=0.2, cutmix=1.0)
KINDS = {
    "plain": {},
    "accumulated": {"accumulate": 3},
    "augmented": {"augmentation": AUGMENTED, "ema": 0.9},
    "norms": {"accumulate": 2},
    "dropout": {},
    "frozen": {},
    "auxiliary": {},
}


class Auxiliary(nn.Module):
    """Says more than its logits, by weights that these do not depend on."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.other = body, nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.body(x), self.other(x)


def network(kind: str) -> nn.Module:
    """The same in every process."""
    torch.manual_seed(0)
    layers = list(pico.plain(3))
    if kind == "norms":
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                layer.register_parameter("bias", None)  # its gradient is 0 but for rounding, which AdamW would follow
    else:
        layers = [layer for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    if kind == "dropout":
        layers.insert(-1, nn.Dropout(0.5))
    model = nn.Sequential(*layers)
    return Auxiliary(model) if kind == "auxiliary" else model


def loader() -> Loader:
    """37 images: two batches of 16 and one of 5, which has two pairs and one in the middle."""
    pixels = np.random.default_rng(0).integers(0, 256, (37, 16, 16, 3)).astype(np.uint8)
    images = Images(np.arange(37) % 3, ("a", "b", "c"), np.zeros(37, bool), lambda i: Image.fromarray(pixels[i]), "")
    return Loader(images, np.arange(37), lambda i: torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255, 16)


def trained(
    kind: str, scratch: Path | None = None, stop: int | None = None
) -> tuple[nn.Module, list[dict[str, float]]]:
    """The network and its curve; stop: an epoch after which the process ends."""
    model, seen = network(kind), []

    def validate(_: nn.Module) -> float:
        seen.append(0)
        if len(seen) == stop:
            raise SystemExit(3)
        return 0.0

    settings = SETTINGS.model_copy(update=KINDS[kind])
    learning = list(model.children())[-1].parameters() if kind == "frozen" else None
    curve = fit(model, loader(), settings, 0, parameters=learning, validate=validate, scratch=scratch)
    return model, curve


def main(folder: Path) -> None:
    """All kinds, and one of them once more, which is stopped in its second epoch and goes on."""
    torch.set_num_threads(1)
    for kind in KINDS:
        model, curve = trained(kind)
        torch.save((model.state_dict(), curve), folder / f"{kind}{processes.rank()}.pt")
    try:
        trained("dropout", folder / "scratch", stop=2)
    except SystemExit:
        model, curve = trained("dropout", folder / "scratch")
        torch.save((model.state_dict(), curve), folder / f"resumed{processes.rank()}.pt")
    (folder / f"states{processes.rank()}.json").write_text(json.dumps(len(list((folder / "scratch").iterdir()))))
    processes.leave()


if __name__ == "__main__":
    with in_one_line("together"), processes.together("tests.training.together"):
        main(Path(sys.argv[1]))
