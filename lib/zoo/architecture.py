"""What builds a network: a name of timm's or torchvision's, or a factory; and which of them a file may name."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..base.errors import BrickyardError
from ..base.stored import CHECKED, Sha256, Size, Text
from ..params.zoo import ZooModel
from .published import build_timm, build_torchvision, refuse_fetching, told, with_classes
from .usercode import Code

ROOT = Path(__file__).parents[2]  # of the repository
MODELS = Path("data/models")  # below it, whose files a saved network may name
MEMORY = 4 * 2**30  # bytes of weights that a network on disk may ask for, unless it is trusted
_AT_LEAST = 2**16  # bytes that a tensor counts, so that a million small ones are too many, too

Trust = bool | Mapping[str, ZooModel]
"""Whose factories may run beside those below data/models: everyone's, no one's, those that params.yaml names for a
network (its entries by name)."""


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build a network without its weights.

    timm, torchvision: an architecture of theirs.
    factory: `file.py:function` or `package.module:function`.
    sha256: that of the factory's file or, where it imports files from beside it, of all of them, see `usercode.Code`.
    kwargs: what it is called with.
    num_classes: length of its logits, None for what it has by itself.
    """

    __pydantic_config__ = CHECKED

    timm: Text | None
    torchvision: Text | None
    factory: Text | None
    sha256: Sha256 | None
    kwargs: dict[Text, Any]
    num_classes: Size | None

    def build(self, trust: bool = False, room: "Bounded | None" = None) -> nn.Module:
        """A network with random weights (from torch's global generator), in eval mode.

        Unless `trust`, a factory must stand below data/models with the content that `sha256` names, and nothing that
        loads weights may be asked for; room: what it may take then. Raises BrickyardError when that is not so, the
        architecture is unknown or refuses its arguments, or its code has changed; it has not run then.
        """
        if [self.timm, self.torchvision, self.factory].count(None) != 2:
            raise BrickyardError("an architecture is exactly one of timm, torchvision and factory")
        with nullcontext() if trust else room or Bounded(MEMORY):
            if self.timm is not None:
                return build_timm(self.timm, self.num_classes, self.kwargs, pretrained=False).eval()
            if self.torchvision is not None:
                return build_torchvision(self.torchvision, self.num_classes, self.kwargs, pretrained=False).eval()
            return self._made(str(self.factory), trust).eval()

    def _made(self, reference: str, trust: bool) -> nn.Module:
        if not trust:
            refuse_fetching(self.kwargs, f"{reference} from a file")
        factory = Factory.find(reference, trust)
        if self.sha256 is None and not trust:
            raise BrickyardError(f"{reference}: the file names no sha256 of it, so that it is not run; {_ALLOW}")
        if self.sha256 not in (None, factory.sha256):
            raise BrickyardError(f"{reference} has changed since the network was made; dvc repro the zoo first")
        return factory.make(self.num_classes, self.kwargs, trust)


_ALLOW = "if you trust whoever made it: load(folder, trust=True), python -m commands.predict --trust"


@dataclass(frozen=True)
class Factory:
    """A function that makes networks, found and hashed but not run.

    reference: as it is written.
    code: of a file.
    origin: of a module's file.
    function: its name.
    """

    reference: str
    where: str
    function: str
    code: Code | None
    sha256: str | None

    @classmethod
    def find(cls, reference: str, trust: bool) -> "Factory":
        """The function of `path/to/file.py:function` or, with `trust` alone, `package.module:function`.

        Raises BrickyardError where it may not be run, or is not there.
        """
        where, _, function = reference.rpartition(":")
        if not function.isidentifier() or function.startswith("__"):
            raise BrickyardError(f"factory {reference}: {function!r} is not the name of a function")
        if not trust:
            _refuse_elsewhere(reference, where)
        if not where.endswith(".py"):
            return cls(reference, where, function, None, None).of_module()
        path = _found(where)
        if path is None:
            looked = " or ".join(dict.fromkeys((str(Path.cwd()), str(ROOT))))
            raise BrickyardError(f"factory {reference}: {where} not found in {looked}; it holds the network's code")
        models = ROOT / MODELS
        inside = path.resolve().is_relative_to(models.resolve())
        try:
            code = Code.read(path, models if inside else path.resolve().parent)
        except BrickyardError as error:
            raise BrickyardError(f"factory {reference}: {error}") from None
        return cls(reference, where, function, code, code.sha256)

    def of_module(self) -> "Factory":
        """The code of `package.module`: the file and what it imports of its package; parent packages are run."""
        try:
            spec = importlib.util.find_spec(self.where)
        except Exception as error:  # whatever a package raises while it is imported
            raise BrickyardError(f"factory {self.reference}: {type(error).__name__}: {error}") from error
        if spec is None:
            raise BrickyardError(f"factory {self.reference}: No module named {self.where!r}")
        if not spec.has_location or not str(spec.origin).endswith(".py"):
            return self
        path = Path(str(spec.origin))
        top = path.parents[self.where.count(".") + (path.name == "__init__.py")]
        code = Code.read(path, top)
        return Factory(self.reference, self.where, self.function, None, code.sha256)

    def make(self, num_classes: int | None, kwargs: Mapping[str, Any], trust: bool) -> nn.Module:
        """The network; what is raised by the user's own code is one line."""
        with self._imported() as module:
            function = getattr(module, self.function, None)
            if not callable(function):
                raise BrickyardError(f"factory {self.reference}: {self.where} has no function {self.function!r}")
            if not trust and not str(getattr(function, "__module__", "")).startswith("usercode_"):
                raise BrickyardError(f"factory {self.reference}: {self.function} is not defined there; {_ALLOW}")
            try:
                model = function(**with_classes(num_classes, kwargs))
            except Exception as error:  # whatever the user's own code raises
                raise told(self.reference, error) from error
        if not isinstance(model, nn.Module):
            raise BrickyardError(f"{self.reference} returned a {type(model).__name__}, not an nn.Module")
        return model

    def _imported(self) -> AbstractContextManager[ModuleType]:
        what: Callable[[], AbstractContextManager[ModuleType]] = (
            self.code.imported if self.code else lambda: nullcontext(importlib.import_module(self.where))
        )
        return _Guarded(what, f"factory {self.reference}: {self.where}")


class _Guarded(AbstractContextManager[ModuleType]):
    """A context whose entry raises one line, whatever the code that it runs raises."""

    def __init__(self, what: Callable[[], AbstractContextManager[ModuleType]], who: str) -> None:
        self._what, self._who = what, who

    def __enter__(self) -> ModuleType:
        try:
            self._inner = self._what()
            return self._inner.__enter__()
        except (Exception, SystemExit) as error:  # whatever the user's own file raises
            raise told(self._who, error) from error

    def __exit__(self, *raised: Any) -> bool | None:
        return self._inner.__exit__(*raised)


class Bounded(TorchDispatchMode):
    """Inside, tensors are made as long as all of them together take no more than so many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = self._limit = limit

    @classmethod
    def by(cls, tensors: Mapping[str, torch.Tensor]) -> "Bounded":
        """Room for a network that such tensors fill."""
        return cls(4 * sum(t.nbytes for t in tensors.values()) + 8 * _AT_LEAST * len(tensors) + 2**26)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        size = args[0] if args and str((kwargs or {}).get("device")) != "meta" else None
        if isinstance(size, list | tuple) and all(isinstance(n, int) for n in size):
            self._left -= max(_AT_LEAST, 4 * prod(size))
            if self._left < 0:
                raise BrickyardError(f"its weights would take more than the {self._limit / 2**30:.3g} GiB it may have")
        return func(*args, **(kwargs or {}))


def trusted(trust: Trust, name: str, architecture: Architecture) -> bool:
    """Whether any factory of network `name` may run. Raises BrickyardError where params.yaml has another entry."""
    if isinstance(trust, bool) or name not in trust:
        return trust is True
    entry = trust[name]
    for key in ("timm", "torchvision", "factory", "kwargs"):
        stored, wanted = getattr(architecture, key), getattr(entry, key)
        if _plain(stored) != _plain(wanted):
            raise BrickyardError(
                f"{key} = {stored!r}, but params.yaml: zoo.models.{name}.{key} = {wanted!r}; dvc repro the zoo first"
            )
    return True


def _refuse_elsewhere(reference: str, where: str) -> None:
    """Raises BrickyardError unless `where` is a file below data/models of the repository, symlinks resolved."""
    path, models = Path(where), ROOT / MODELS
    inside = (ROOT / path).resolve().is_relative_to(models.resolve())
    if not where.endswith(".py") or path.is_absolute() or ".." in path.parts or not inside:
        raise BrickyardError(f"would run {reference}, which stands in no file below {MODELS}; {_ALLOW}")


def _found(where: str) -> Path | None:
    """`where` in the repository, else in the current folder."""
    return next((path for path in (ROOT / where, Path(where)) if path.is_file()), None)


def _plain(value: Any) -> Any:
    """A value as JSON has it: no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
