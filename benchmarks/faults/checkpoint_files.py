"""Files of weights in every format, whole and damaged: makers that write one into a folder and return its path."""

import argparse
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn.utils import prune

from benchmarks.faults import weighted
from benchmarks.faults.checkpoint_contents import SEED, State, each, state

MARKER = "code-has-run"  # a file that code of a checkpoint would leave beside it


@dataclass(frozen=True)
class Case:
    """make: writes the file into a folder, with weights of `network(SEED)`; expectation: what must happen when it is to
    fill `network(0)`; fragment: part of the line that refuses it, or of what is told of where the weights were found.
    """

    name: str
    make: Callable[[Path], Path]
    expectation: Literal["filled", "refused"]
    fragment: str = ""
    network: Callable[[int], nn.Module] = weighted.plain


def saved(content: Callable[[State], Any], name: str = "x.pth") -> Callable[[Path], Path]:
    """By torch.save, what is made of the tensors of `weighted.plain`."""

    def make(folder: Path) -> Path:
        torch.save(content(state()), folder / name)
        return folder / name

    return make


def _written(data: bytes, name: str = "x.pth") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


class _Exploding:
    """Leaves a marker when it is unpickled."""

    def __init__(self, marker: Path):
        self._marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self._marker,))


def _exploding(zipped: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        content = {"state_dict": state(), "x": _Exploding(folder / MARKER)}
        torch.save(content, folder / "x.pth", _use_new_zipfile_serialization=zipped)
        return folder / "x.pth"

    return make


def _timm(folder: Path) -> Path:
    """As timm's own training script leaves it."""
    from timm.utils import CheckpointSaver

    model = weighted.plain(SEED)
    options = argparse.Namespace(model="plain", opt="sgd", lr=0.1, mean=None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    saver: Any = CheckpointSaver(model, optimizer, options, checkpoint_dir=str(folder), recovery_dir=str(folder))
    saver.save_checkpoint(1, metric=91.5)
    return folder / "last.pth.tar"


def _safetensors(name: str, of: Callable[[int], nn.Module] = weighted.shared) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_model(of(SEED), str(folder / name))
        return folder / name

    return make


def _tensors(content: Mapping[str, torch.Tensor]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_file(dict(content), folder / "x.safetensors")
        return folder / "x.safetensors"

    return make


def _sharded(names: tuple[str, str], lost: bool = False) -> Callable[[Path], Path]:
    """Two files and their index."""

    def make(folder: Path) -> Path:
        tensors = state()
        files = {name: names[i % 2] for i, name in enumerate(tensors)}
        for file in set(names) if not lost else names[:1]:
            held = {name: tensor for name, tensor in tensors.items() if files[name] == file}
            if Path(file).name == file:
                save_file(held, folder / file)
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
        return path

    return make


def _script(folder: Path) -> Path:
    torch.jit.save(torch.jit.script(weighted.plain(SEED)), folder / "x.pt")
    return folder / "x.pt"


def _zip(member: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.pth", "w") as archive:
            archive.writestr(member, b"anything")
        return folder / "x.pth"

    return make


def _tar(folder: Path) -> Path:
    for name in ("pickle", "storages"):
        (folder / name).write_bytes(b"anything")
    with tarfile.open(folder / "x.pth.tar", "w") as archive:
        for name in ("pickle", "storages"):
            archive.add(folder / name, name)
    return folder / "x.pth.tar"


def _changed(change: Callable[[bytes], bytes], make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def changed(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return changed


def _flipped(data: bytes) -> bytes:
    """One bit of the weights of a zip archive."""
    at = data.index(state()["conv.weight"].numpy().tobytes()) + 10
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _legacy(folder: Path) -> Path:
    torch.save(state(), folder / "x.pth", _use_new_zipfile_serialization=False)
    return folder / "x.pth"


def _dictionary_of(network: Callable[[int], nn.Module], keep: Callable[[str], bool]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save({k: v for k, v in network(SEED).state_dict().items() if keep(k)}, folder / "x.pth")
        return folder / "x.pth"

    return make


def _index(last: int) -> Callable[[Path], Path]:
    return _dictionary_of(lambda seed: weighted.seeded(lambda: weighted.Indexed(last, True), seed), lambda _: True)


def _pruned(folder: Path) -> Path:
    network = weighted.plain(SEED)
    prune.l1_unstructured(network.get_submodule("conv"), "weight", 0.5)
    torch.save(network.state_dict(), folder / "x.pth")
    return folder / "x.pth"


_HUGE = {"conv.weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
_HEADER = json.dumps(_HUGE).encode()

NETWORKS: list[Case] = [
    Case("save_model of shared layers", _safetensors("x.safetensors"), "filled", network=weighted.shared),
    Case("save_model, layers no longer shared", _safetensors("x.safetensors"), "refused", "", weighted.two_heads),
    Case("shared names once", _dictionary_of(weighted.shared, lambda k: "s.1" not in k), "filled", "", weighted.shared),
    Case(
        "shared here, different there",
        _dictionary_of(weighted.untied, lambda _: True),
        "refused",
        "layers.0.weight and layers.1.weight are one tensor here and differ there",
        weighted.shared,
    ),
    Case(
        "two heads of other classes",
        lambda folder: saved(lambda _: weighted.seeded(lambda: weighted.TwoHeads(9), SEED).state_dict())(folder),
        "refused",
        "has 9 classes; write `classes: own`",
        weighted.two_heads,
    ),
    Case(
        "weight norm of old", _dictionary_of(weighted.normed_as_before, lambda _: True), "filled", "", weighted.normed
    ),
    Case(
        "weight norm of today",
        _dictionary_of(weighted.normed, lambda _: True),
        "filled",
        network=weighted.normed_as_before,
    ),
    Case("a network that refuses", saved(lambda s: s), "refused", "does not take these weights", weighted.stubborn),
    Case("an index that is no longer saved", _index(3), "filled", "", weighted.indexed),
    Case("another index", _index(4), "refused", "has index that the network has not", weighted.indexed),
    Case("pruned", _pruned, "refused", "conv.weight_orig is of a weight norm or mask that this network has not"),
    Case("the network wrapped here", saved(lambda s: s), "filled", "without wrapped.", weighted.inside),
]

FILES: list[Case] = [
    Case("timm's CheckpointSaver", _timm, "filled", "state_dict"),
    Case("legacy format", _legacy, "filled"),
    Case("safetensors, suffix in capitals", _safetensors("X.SAFETENSORS", weighted.plain), "filled"),
    Case("safetensors called .bin", _safetensors("x.bin", weighted.plain), "filled"),
    *(Case(f"suffix {end}", saved(lambda s: s, f"x{end}"), "filled") for end in (".bin", ".ckpt", ".PT", ".pth.tar")),
    Case("an index of two files", _sharded(("a.safetensors", "b.safetensors")), "filled"),
    Case(
        "an index without its files",
        _sharded(("a.safetensors", "b.safetensors"), True),
        "refused",
        "which is not beside",
    ),
    Case("an index of files elsewhere", _sharded(("a.safetensors", "../b.safetensors")), "refused", "lie beside it"),
    Case("another JSON file", _written(b'{"architecture": "resnet"}', "x.json"), "refused", "no index of weights"),
    Case("code", _exploding(True), "refused", "without running code from it: it holds"),
    Case("code in the legacy format", _exploding(False), "refused", "without running code from it: it holds"),
    Case("TorchScript", _script, "refused", "is a TorchScript archive"),
    Case("another zip archive", _zip("folder/readme.txt"), "refused", "is a zip archive that torch.save did not write"),
    Case("NumPy archive", _zip("conv.npy"), "refused", "is a NumPy archive"),
    Case("tar archive", _tar, "refused", "is a tar archive"),
    Case("gzip", _written(b"\x1f\x8b\x08" + bytes(100)), "refused", "is compressed by gzip"),
    Case("nothing", _written(b""), "refused", "it is empty"),
    Case("web page", _written(b"\n<!DOCTYPE html><html>404</html>"), "refused", "is a web page"),
    Case("text", _written(b"Not found"), "refused", "is a text"),
    Case(
        "LFS pointer",
        _written(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "x.safetensors"),
        "refused",
        "is a Git LFS pointer, not the weights; git lfs pull",
    ),
    Case("DVC pointer", _written(b"outs:\n- md5: 4d7a\n  path: x.pth\n"), "refused", "is a DVC pointer"),
    Case("pickle", _written(pickle.dumps({"a": [1]})), "refused", "is a pickle that torch.save did not write"),
    Case("noise", _written(bytes(range(256)) * 4), "refused", "neither safetensors nor"),
    Case("cut short", _changed(lambda data: data[:-400], saved(lambda s: s)), "refused", "cut short"),
    Case("legacy, cut short", _changed(lambda data: data[:-40], _legacy), "refused", "is damaged"),
    Case("safetensors, cut short", _changed(lambda d: d[:-9], _tensors(state())), "refused", "is damaged"),
    Case("a bit changed", _changed(_flipped, saved(lambda s: s)), "refused", "its parts do not have their checksums"),
    Case(
        "safetensors of absurd size",
        _written(struct.pack("<Q", len(_HEADER)) + _HEADER + bytes(8), "x.safetensors"),
        "refused",
        "is damaged",
    ),
    Case(
        "safetensors, quantised", _tensors(each(lambda t: t.to(torch.float8_e5m2), state())), "refused", "float8_e5m2"
    ),
    Case("no file", lambda folder: folder / "nowhere.pth", "refused", "no file"),
    Case("a folder", lambda folder: folder, "refused", "is a folder; name the file in it"),
]
