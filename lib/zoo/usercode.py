"""A user's Python file and the files beside it that it imports: found without running them, hashed, run as hashed."""

import ast
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base.errors import BrickyardError

LIMIT = 2**24  # bytes of a file


@dataclass(frozen=True)
class Code:
    """A file below the folder `root` and all that it imports from there.

    main: its module's name, dotted, relative to `root`; files: module name -> (path, content), None for a folder
    without __init__.py. Imports are found in the text: those inside functions count, those made up at run time are
    refused when they happen. A neighbour hides neither the standard library nor an installed package.
    """

    root: Path
    main: str
    files: dict[str, tuple[Path, bytes] | None]

    @classmethod
    def read(cls, path: Path, root: Path) -> "Code":
        """The code of the file `path` below `root`; nothing is run.

        Raises BrickyardError where a file cannot be read, is no Python, or lies outside `root`, symlinks resolved.
        """
        root = root.resolve()
        names = path.resolve().relative_to(root).with_suffix("").parts
        if not all(name.isidentifier() for name in names[:-1]):
            raise BrickyardError(f"{path}: a folder of Python files is named by letters, digits and _ alone")
        main = ".".join((*names[:-1], "".join(c if c.isalnum() else "_" for c in names[-1])))
        found = cls(root, main, {})
        found._follow(".".join(names[:-1]))
        found._add(main, path)
        return found

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, where it stands alone; else over the names and the SHA-256 of all files."""
        digests = {name: hashlib.sha256(file[1]).hexdigest() for name, file in self.files.items() if file}
        if len(digests) == 1:
            return next(iter(digests.values()))
        return hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()

    @property
    def package(self) -> str:
        """The name under which its modules stand in `sys.modules`: other content, another name."""
        return "usercode_" + hashlib.sha256(f"{self.root}\n{self.main}\n{self.sha256}".encode()).hexdigest()[:24]

    @contextmanager
    def imported(self) -> Iterator[ModuleType]:
        """The code's module, run once; inside alone its neighbours can be imported. Raises whatever it raises."""
        finder, before = _Finder(self), set(sys.modules)
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if finder.is_neighbour(name)}
        sys.meta_path.insert(0, finder)
        try:
            yield importlib.import_module(f"{self.package}.{self.main}")
        except BaseException:
            for name in set(sys.modules) - before:
                if name.split(".")[0] == self.package:
                    del sys.modules[name]
            raise
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if finder.is_neighbour(name)]:
                del sys.modules[name]
            sys.modules.update(hidden)

    def _add(self, module: str, path: Path) -> None:
        if not path.resolve().is_relative_to(self.root):
            raise BrickyardError(f"{path} lies outside {self.root}; put the file itself there, not a link")
        content = _content(path)
        self.files[module] = (path, content)
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BrickyardError(f"{path}: {type(error).__name__}: {error}") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._follow(self._neighbour(alias.name, module))
            elif isinstance(node, ast.ImportFrom) and (base := self._base(node, module)) is not None:
                for name in (base, *(f"{base}.{alias.name}" for alias in node.names)):
                    self._follow(name.removeprefix("."))

    def _base(self, node: ast.ImportFrom, module: str) -> str | None:
        """What `from … import` imports from, relative to the root; None for what is no neighbour."""
        if not node.level:
            return self._neighbour(str(node.module), module)
        here = module.split(".")
        up = len(here) - node.level + (self._is_package(module) and 1)
        if up < 0:
            raise BrickyardError(f"{module.replace('.', '/')}.py: a relative import leaves {self.root}")
        return ".".join([*here[:up], *([node.module] if node.module else [])])

    def _neighbour(self, name: str, module: str) -> str | None:
        """An absolute import in `module`: the name, relative to the root, of what stands beside the main file."""
        first, folder = name.split(".")[0], self.main.split(".")[:-1]
        wanted = ".".join([*folder, first])
        return ".".join([*folder, name]) if wanted != module and self._place(wanted) and not _installed(first) else None

    def _follow(self, module: str | None) -> None:
        parts = module.split(".") if module else []
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            if name in self.files:
                continue
            place = self._place(name)
            if place is None:
                return
            if place.is_dir():
                self.files[name] = None
            else:
                self._add(name, place)

    def _place(self, module: str) -> Path | None:
        """The file of a module, or its folder where that has no __init__.py."""
        path = self.root / module.replace(".", "/")
        places = (path / "__init__.py", path.with_name(path.name + ".py"))
        return next((one for one in places if one.is_file()), path if path.is_dir() else None)

    def _is_package(self, module: str) -> bool:
        file = self.files[module]
        return file is None or file[0].name == "__init__.py"


class _Finder(MetaPathFinder, Loader):
    """Imports the modules of some code, by their names in its package and, from beside each other, by their own."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._folder = code.main.rpartition(".")[0]
        prefix = f"{self._folder}." if self._folder else ""
        self._aliases = {
            name.removeprefix(prefix): name for name in code.files if name.startswith(prefix) and name != code.main
        }
        self._specs: dict[str, ModuleSpec | None] = {}

    def is_neighbour(self, name: str) -> bool:
        """Whether an absolute import of `name` means a neighbour."""
        return name.split(".")[0] in self._aliases and not _installed(name.split(".")[0])

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a module of the code, None for any other."""
        package, _, module = fullname.partition(".")
        if package != self._code.package:
            wanted = self._aliases.get(fullname) if self.is_neighbour(fullname) else None
            return spec_from_loader(fullname, self) if wanted else None
        if module and module not in self._code.files:
            raise ModuleNotFoundError(f"{module} is imported in a way that its text does not show; write `import`")
        file = self._code.files.get(module)
        is_package = file is None or file[0].name == "__init__.py"
        return spec_from_loader(fullname, self, is_package=is_package, origin=str(file[0]) if file else None)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """A neighbour under its own name is the module of the package."""
        if spec.name.split(".")[0] == self._code.package:
            return None
        module = importlib.import_module(f"{self._code.package}.{self._aliases[spec.name]}")
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Runs the text that was hashed."""
        spec = module.__spec__
        assert spec is not None
        if spec.name in self._specs:
            module.__spec__ = self._specs[spec.name]
            return
        file = self._code.files.get(spec.name.partition(".")[2])
        if file is not None:
            module.__file__ = str(file[0])
            exec(compile(file[1], str(file[0]), "exec", dont_inherit=True), vars(module))


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LIMIT:
            raise BrickyardError(f"{path} has more than {LIMIT >> 20} MiB; it is no Python file")
        return path.read_bytes()
    except OSError as error:
        raise BrickyardError(f"{path} cannot be read: {error.strerror}") from None


def _installed(package: str) -> bool:
    """Whether a name belongs to the standard library or an installed package."""
    if package in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(package, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return spec is not None and spec.origin is not None
