"""torch.fx's symbolic tracing, made to follow control flow that depends on sizes."""

import operator
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.fx.immutable_collections import immutable_list
from torch.fx.node import map_aggregate
from torch.fx.proxy import Attribute, TraceError

from .cost import BATCHES, without_data

_CALL = nn.Module.__call__
_FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")


class Tracer(fx.Tracer):
    """torch.fx's tracer with leaves by path, timm's leaf modules and functions, and control flow on sizes.

    Where the network's own code asks for a number, a truth or a length, the operations so far are run on shapes.
    """

    proxy_buffer_attributes = True

    def __init__(self, leaves: Collection[str], shape: tuple[int, ...]) -> None:
        types, functions = _timm_leaves()
        super().__init__(autowrap_functions=functions)
        self._paths, self._types = frozenset(leaves), types
        self._runs = [_Shapes(batch, shape) for batch in BATCHES]
        self._asking = False
        self._members: set[nn.Module] = set()

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """The operations of `root`; tensors made from nothing are operations where they must be, else constants."""
        self._members = set(root.modules())
        try:
            with torch.enable_grad(), self._told_apart(root), self._traced_factories(always=False):
                return super().trace(root, concrete_args)
        except TypeError:  # a constant met a size that is not known
            self._runs = [run.again() for run in self._runs]
            with torch.enable_grad(), self._told_apart(root), self._traced_factories(always=True):
                return super().trace(root, concrete_args)
        finally:
            self._asking = True  # proxies that the network keeps are nothing any more

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The network is called as a user calls it: its hooks run, optional arguments stay at their defaults."""
        return _CALL, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Operations that the network wants no gradients of are marked."""
        node = super().create_node(*args, **kwargs)
        node.meta["no_grad"] = not torch.is_grad_enabled()
        return node

    def known(self, node: fx.Node) -> Any:
        """What `node` gives, if it is no tensor and the same for every batch; raises TraceError otherwise."""
        try:
            first, second = self._both(node)
        except (NotImplementedError, RuntimeError) as error:
            if "meta" not in str(error):
                raise
            raise TraceError(f"control flow depends on the pixels{self._where()}") from error  # asked of mere shapes
        if isinstance(first, fx.Proxy) or tensors(first) or first != second:
            raise TraceError(f"control flow depends on the pixels or on the number of images{self._where()}")
        return first

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether `node` gives a tensor, as far as that can be told without numbers, while the network is traced."""
        try:
            return not self._asking and isinstance(self._both(node)[0], torch.Tensor)
        except (NotImplementedError, RuntimeError):
            return False

    @contextmanager
    def _told_apart(self, root: nn.Module) -> Iterator[None]:
        """Inside, `isinstance` and `torch.is_tensor` know a proxy of a tensor as one, where the network asks, and
        buffers that the network assigns to are changed.

        Saying so in `__class__` would be simpler, but torch's C code believes it, and crashes.
        """

        def is_a(value: Any, kind: Any) -> bool:
            if type(value) is _Proxy and self.is_tensor(value.node):
                return issubclass(torch.Tensor, kind)
            return isinstance(value, kind)

        def is_tensor(obj: Any) -> bool:
            own = not _of_torch(sys._getframe(1).f_globals)
            return is_a(obj, torch.Tensor) if own else original(obj)

        def set_attribute(module: nn.Module, name: str, value: Any) -> None:
            traced = type(value) is _Proxy and not self._asking
            buffer = module._buffers.get(name) if traced else None
            if buffer is None:
                set_as_ever(module, name, value)
            else:  # a buffer that is given another value is changed in place, so that every part has it
                self.create_proxy("call_method", "copy_", (getattr(module, name), value), {})

        original: Any = torch.is_tensor
        set_as_ever: Any = nn.Module.__setattr__
        forwards = [getattr(base, "forward", None) for module in root.modules() for base in type(module).__mro__]
        homes = {id(found): found for one in forwards if (found := getattr(one, "__globals__", None)) is not None}
        asking = [home for home in homes.values() if not _of_torch(home) and "isinstance" not in home]
        torch.is_tensor, nn.Module.__setattr__ = is_tensor, set_attribute  # type: ignore[method-assign]
        for home in asking:
            home["isinstance"] = is_a
        try:
            yield
        finally:
            torch.is_tensor, nn.Module.__setattr__ = original, set_as_ever  # type: ignore[method-assign]
            for home in asking:
                del home["isinstance"]

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The truth of a size or of a comparison of sizes."""
        return bool(self.known(obj.node))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The elements of a tuple, or of a tensor along its first dimension."""
        proxy: Any = obj
        return iter([proxy[i] for i in range(self.length(obj.node))])

    def length(self, node: fx.Node) -> int:
        """The length of a tuple, or of a tensor's first dimension; raises TraceError where it follows the images."""
        first, second = (len(value) for value in self._both(node))
        if first != second:
            raise TraceError(f"control flow depends on the number of images{self._where()}")
        return first

    def _where(self) -> str:
        return f", in module {self.scope.module_path}" if self.scope.module_path else ""

    def _both(self, node: fx.Node) -> list[Any]:
        asking, self._asking = self._asking, True
        try:
            return [run.of(self.root, node) for run in self._runs]
        finally:
            self._asking = asking

    @contextmanager
    def _traced_factories(self, always: bool) -> Iterator[None]:
        """Inside, functions of torch that make tensors are traced: `always`, or where a size is a proxy."""
        originals = {name: getattr(torch, name) for name in _FACTORIES}

        def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
            def make(*args: Any, **kwargs: Any) -> Any:
                proxies: list[fx.Proxy] = []
                map_aggregate((args, kwargs), lambda v: proxies.append(v) if isinstance(v, fx.Proxy) else None)
                if self._asking or not (proxies or always):
                    return original(*args, **kwargs)
                return self.create_proxy("call_function", original, args, kwargs)

            return make

        with torch.device("meta"):
            torch.empty(0)  # torch remembers at its first use which functions follow a device: let it be the real ones
        for name, original in originals.items():
            setattr(torch, name, wrapped(original))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(torch, name, original)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The proxy of a node; it knows its number."""
        return _Proxy(node, self)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What a module gives: modules run as they are while shapes are asked for, and so do those that the network
        makes as it runs. A unit that returns a list returns a list of proxies: the network's own code may ask what it
        is, or whether an element is None.
        """
        if self._asking or not (m is self.root or m in self._members):
            return forward(*args, **kwargs)
        made = super().call_module(m, forward, args, kwargs)
        return self._opened(made) if self.path_of_module(m) in self._paths else made

    def _opened(self, proxy: Any) -> Any:
        try:
            value, _ = self._both(proxy.node)
        except RuntimeError:  # numbers were asked of shapes: what such a unit returns stays unknown
            return proxy
        if type(value) not in (tuple, list, immutable_list):
            return proxy
        elements = [None if element is None else proxy[i] for i, element in enumerate(value)]
        return tuple(elements) if isinstance(value, tuple) else elements

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute of a module: itself while shapes are asked for, else, of a tensor, a value of the graph."""
        return attr_val if self._asking else super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one operation."""
        if module_qualified_name in self._paths or isinstance(m, self._types):
            return True
        return super().is_leaf_module(m, module_qualified_name)


class _Sized:
    """What a proxy answers where its value is a size."""

    def __index__(self: Any) -> int:
        return int(self.tracer.known(self.node))

    __int__ = __index__

    def __float__(self: Any) -> float:
        return float(self.tracer.known(self.node))

    def __len__(self: Any) -> int:
        return self.tracer.length(self.node)


def _in_place(name: str) -> Callable[..., Any]:
    function = getattr(operator, name)
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


class _Proxy(_Sized, fx.Proxy):
    """A proxy that can be counted with, and that knows `x += y` from `x = x + y`."""

    __iadd__, __isub__, __imul__ = _in_place("iadd"), _in_place("isub"), _in_place("imul")
    __itruediv__, __ifloordiv__, __ipow__ = _in_place("itruediv"), _in_place("ifloordiv"), _in_place("ipow")
    __iand__, __ior__, __ixor__ = _in_place("iand"), _in_place("ior"), _in_place("ixor")

    def __getattr__(self, k: str) -> Any:
        return _Attribute(self, k)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", assign, (self, index, value), {})


class _Attribute(_Sized, Attribute):
    """Its attributes, such as `shape`, can be, too."""


class _Shapes(fx.Interpreter):
    """Values of the operations of a graph that is being traced, for one batch, without data, when asked for."""

    def __init__(self, batch: int, shape: tuple[int, ...]):
        self._images, self.env = torch.zeros(batch, *shape, device="meta"), {}

    def again(self) -> "_Shapes":
        """Makes the tracer ready for a new graph."""
        return _Shapes(self._images.shape[0], tuple(self._images.shape[1:]))

    def of(self, model: nn.Module, node: fx.Node) -> Any:
        """The value of `node`; what it needs is computed first."""
        self.module = self.submodules = model
        with without_data(model):
            stack = [node]
            while stack:
                waiting = [source for source in stack[-1].all_input_nodes if source not in self.env]
                if stack[-1] in self.env or not waiting:
                    self._compute(stack.pop())
                stack.extend(waiting)
        return self.env[node]

    def _compute(self, node: fx.Node) -> None:
        if node not in self.env:
            value = self._images if node.op == "placeholder" else super().run_node(node)
            self.env[node] = map_aggregate(value, on_meta)

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Devices that the network names itself are replaced, too."""
        return map_aggregate(super().fetch_args_kwargs_from_env(n), on_meta)


def assign(x: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """x[index] = value, as an operation that gives x."""
    x[index] = value
    return x


def _of_torch(names: dict[str, Any]) -> bool:
    return str(names.get("__name__")).split(".")[0] == "torch"


def _timm_leaves() -> tuple[tuple[type[nn.Module], ...], tuple[Any, ...]]:
    if "timm" not in sys.modules:
        return (), ()
    from timm.layers import get_notrace_functions, get_notrace_modules
    from timm.layers.grn import GlobalResponseNorm

    return (*get_notrace_modules(), GlobalResponseNorm), tuple(get_notrace_functions())


def on_meta(value: Any) -> Any:
    """Tensors without their numbers, devices replaced by the meta device, anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return torch.device("meta") if isinstance(value, torch.device) else value


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors inside a value."""
    found: list[torch.Tensor] = []
    map_aggregate(value, lambda v: found.append(v) if isinstance(v, torch.Tensor) else None)
    return found
