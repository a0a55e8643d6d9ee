"""Opening a file of weights: safetensors, an index of several, or what torch.save wrote. No code runs from any."""

import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..base.errors import BrickyardError

_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # how torch.save began before it wrote zips
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights; git lfs pull"),
    (b"outs:", "a DVC pointer, not the weights; dvc pull"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"BZh", "compressed by bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed by xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (b"\x89HDF", "an HDF5 file; only safetensors and what torch.save wrote are read"),
    (b"\x93NUMPY", "a NumPy array; only safetensors and what torch.save wrote are read"),
    (b"GGUF", "a GGUF file; only safetensors and what torch.save wrote are read"),
    (b"<", "a web page, not the weights; download the file itself"),
)
_INDEX_LIMIT = 64 * 2**20  # bytes of a sharded index
_RATIO = 20  # of unpacked to packed bytes; weights can hardly be compressed


class _StandIn:
    """Takes the place of a harmless object in a checkpoint; whatever it was made from is forgotten."""

    def __new__(cls, *_: Any, **__: Any) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _dictionary(*_: Any) -> dict[Any, Any]:
    return {}


def _list(*_: Any) -> list[Any]:
    return []


def _names() -> list[str]:
    """What training scripts save beside tensors and what holds no code."""
    lightning = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric")
    return [
        "argparse.Namespace",
        "types.SimpleNamespace",
        *(f"pathlib.{at}{kind}Path" for at in ("", "_local.") for kind in ("", "Posix", "Windows")),
        *(f"pathlib.{at}Pure{kind}Path" for at in ("", "_local.") for kind in ("", "Posix", "Windows")),
        *(f"datetime.{kind}" for kind in ("datetime", "date", "time", "timedelta", "timezone")),
        *(
            f"builtins.{kind}"
            for kind in ("int", "float", "bool", "str", "list", "dict", "tuple", "frozenset", "slice")
        ),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "typing.Any"),
        *(f"numpy.{kind}" for kind in ("dtype", "ndarray", "bool_", "bool", "str_", "float16", "float32", "float64")),
        *(f"numpy.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in ("scalar", "_reconstruct")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"omegaconf.{kind}" for kind in ("dictconfig.DictConfig", "listconfig.ListConfig")),
        *(f"omegaconf.base.{kind}" for kind in ("Metadata", "ContainerMetadata", "Node")),
        *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Integer", "Float", "Boolean", "String")),
        *(f"{at}.callbacks.model_checkpoint.ModelCheckpoint" for at in lightning),
        *(f"{at}.callbacks.early_stopping.EarlyStopping" for at in lightning),
        *(f"{at}.utilities.{module}.AttributeDict" for at in lightning for module in ("parsing", "data")),
        *("torch.torch_version.TorchVersion", "torch.memory_format", "torch.layout"),
    ]


def _stand_in(name: str) -> type[_StandIn]:
    module, _, own = name.rpartition(".")
    shown = {"_reconstruct": "NumPy array", "_frombuffer": "NumPy array"}.get(own, own)
    return type(shown, (_StandIn,), {"__module__": module})


# In a checkpoint these names make what stands beside them here; none of the named classes is ever called.
_HARMLESS: list[Any] = [
    *((_stand_in(name), name) for name in _names()),
    (_dictionary, "collections.defaultdict"),
    (_list, "collections.deque"),
]


def read(path: Path) -> Mapping[str, Any]:
    """What a file of weights holds: a dictionary of tensors by name, or of such dictionaries at any depth.

    A sharded index (`model.safetensors.index.json`) is read with the files beside it. The format is told by content.
    Raises BrickyardError naming the file when it is missing, damaged, of another kind, would run code, or holds no
    tensors by name.
    """
    found = _opened(path)
    if not isinstance(found, Mapping):
        raise BrickyardError(f"{path} holds {_kind(found)}, no tensors by name; save network.state_dict()")
    values = [value for _, held in dictionaries(found) for value in held.values()]
    if not any(isinstance(value, torch.Tensor) for value in values):
        instead = next((_kind(value) for value in values if isinstance(value, _StandIn)), "")
        raise BrickyardError(
            f"{path} holds no tensors by name{f', but {instead}' if instead else ''}; a checkpoint is a state_dict"
        )
    return found


def _opened(path: Path, index: bool = True) -> Any:
    """What the file holds, whatever it is; index: whether it may be one."""
    if path.is_dir():
        raise BrickyardError(f"weights: {path} is a folder; name the file in it")
    if not path.is_file():
        raise BrickyardError(f"weights: no file {path}; use train, pretrained, random or the path of a checkpoint")
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise BrickyardError(f"{path} cannot be read: {error.strerror}") from error
    if zipfile.is_zipfile(path) and start.startswith(b"PK"):
        _check_zip(path)
        return _torch(path)
    if start.startswith(_LEGACY):
        return _torch(path)
    if start[8:9] == b"{":
        return _safetensors(path)
    if start.lstrip()[:1] == b"{" and index:
        return _sharded(path)
    raise BrickyardError(f"{path} cannot be read: it is {_other(path, start)}")


def dictionaries(tree: Mapping[Any, Any]) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every dictionary in a checkpoint, itself the first, by the keys that lead to it; what has no name is left out."""
    found: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), tree)]
    while waiting:
        where, held = waiting.pop(0)
        if id(held) in seen:
            continue
        seen.add(id(held))
        named = {key: value for key, value in held.items() if isinstance(key, str)}
        found.append((where, named))
        waiting += [((*where, key), value) for key, value in named.items() if isinstance(value, Mapping)]
    return found


def _kind(value: Any) -> str:
    """`an int`, `a ndarray of numpy`, for messages."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _other(path: Path, start: bytes) -> str:
    """What a file is that holds no weights, and what to do."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return "empty"
    for beginning, sentence in _OTHERS:
        if text.startswith(beginning):
            return sentence
    if start.startswith(b"PK"):
        return "damaged or cut short: begun as a zip archive and not ended as one"
    if start.startswith(b"\x80"):
        return "a pickle that torch.save did not write; save network.state_dict() by torch.save or safetensors"
    if tarfile.is_tarfile(path):
        return "a tar archive; unpack it (if torch before 1.0 wrote it, save its state_dict anew)"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return "a text, not weights"
    return "neither safetensors nor a file that torch.save wrote, or damaged"


def _check_zip(path: Path) -> None:
    """Raises BrickyardError unless a zip archive is whole, written by torch.save and not far larger unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
            if "constants.pkl" in names:
                raise BrickyardError(f"{path} is a TorchScript archive, which holds code; save network.state_dict()")
            if any(name.endswith(("exported_program.json", "archive_format")) for name in names):
                raise BrickyardError(f"{path} is an exported program; save network.state_dict()")
            if any(name.endswith(".npy") for name in archive.namelist()):
                raise BrickyardError(f"{path} is a NumPy archive; save network.state_dict() by torch.save")
            if "data.pkl" not in names:
                raise BrickyardError(f"{path} is a zip archive that torch.save did not write; unpack it")
            records = archive.infolist()
            if sum(record.file_size for record in records) > _RATIO * path.stat().st_size:
                raise BrickyardError(f"{path} unpacks to more than {_RATIO} times its size; save it anew")
            for record in records:
                if record.CRC:  # torch can be told to leave checksums out
                    _read_through(archive, record)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise BrickyardError(f"{path} is damaged: its parts do not have their checksums") from error


def _read_through(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    with archive.open(record) as stream:
        while stream.read(1 << 20):
            pass


def _torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of torch, about pickle protocols and storages
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and refused pickles come in many kinds
        text = str(error)
        named = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"class '?([\w.]+)'?", text)
        if named:
            raise BrickyardError(
                f"{path} cannot be read without running code from it: it holds {named[1]}, not only tensors; "
                "save network.state_dict() instead"
            ) from error
        if "Unsupported operand" in text:
            raise BrickyardError(
                f"{path} is pickled in a way that torch.save does not by itself, or is damaged; "
                "save network.state_dict() anew"
            ) from error
        raise BrickyardError(
            f"{path} is damaged, or holds something else than tensors; save network.state_dict() anew"
        ) from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors; names that `save_model` left out, since they stand for a tensor that has another name, included."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt", device="cpu") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            aliases = opened.metadata() or {}
    except Exception as error:  # of the safetensors library, without a common class
        reason = " ".join(str(error).split())[:120]
        raise BrickyardError(f"{path} is damaged, or holds what PyTorch has not: {reason}") from error
    return {**tensors, **{a: tensors[kept] for a, kept in aliases.items() if kept in tensors and a not in tensors}}


def _sharded(path: Path) -> dict[str, Any]:
    """The tensors of all files that an index names; they lie beside it."""
    try:
        if path.stat().st_size > _INDEX_LIMIT:
            raise ValueError
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(file) for file in shards.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BrickyardError(f"{path} is a JSON file, but no index of weights") from None
    tensors: dict[str, Any] = {}
    for file in files:
        if Path(file).name != file:
            raise BrickyardError(f"{path} names {file!r}; the files of an index lie beside it")
        if not path.with_name(file).is_file():
            raise BrickyardError(f"{path} names {file}, which is not beside it")
        held = _opened(path.with_name(file), index=False)
        if isinstance(held, Mapping):
            tensors |= {name: value for name, value in held.items() if shards.get(name) == file}
    missing = [name for name in shards if name not in tensors]
    if missing:
        raise BrickyardError(f"{path} names {missing[0]}, which is not in {shards[missing[0]]}")
    return tensors
