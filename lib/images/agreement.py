"""Whether the images have what `params.yaml` asks of them: classes by name or number, and enough of each."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from ..base.errors import BrickyardError
from ..params.lego import Choose
from ..params.sections import Sections
from ..params.training import ENSEMBLE
from ..params.zoo import Zoo
from .data import DataSet, parse_classes

Known = Mapping[str, set[int] | None]  # the classes of a network or a task; None where they are not known here


def check(given: Sections, data: DataSet) -> None:
    """Raises BrickyardError, one line for all mistakes."""
    if found := mistakes(given, data):
        raise BrickyardError("; ".join(f"params.yaml: {line}" for line in found))


def mistakes(given: Sections, data: DataSet) -> list[str]:
    """A line for each mistake; what concerns a section that is not there is not looked at."""
    lines: list[str] = []
    names = data.classes
    networks = _networks(given.zoo, names, lines) if given.zoo else {}
    tasks: dict[str, set[int] | None] = {}
    if given.components:
        wanted = {name: task.classes for name, task in given.components.tasks.items()}
        tasks = {name: _parsed(text, names, f"components.tasks.{name}.classes", lines) for name, text in wanted.items()}
        for name, task in given.components.tasks.items():
            unknown = sorted((tasks[name] or set()) - (networks.get(task.model) or set(range(len(names)))))
            if unknown:
                key = f"components.tasks.{name}.classes"
                lines.append(f"{key} = {task.classes!r}: {task.model} does not know class {names[unknown[0]]!r}")
        lines += _disjoint(given.lego.components or [] if given.lego else [], tasks, names)
    if given.lego and given.lego.choose:
        lines += _chosen(given.lego.choose, networks, names)
    lines += _taught(given, networks, tasks, names)
    if given.assembly:
        for key, each in (("head_images", 2), ("rank_images", 1)):
            count = getattr(given.assembly, key)
            if count is not None and count < each * len(names):
                least = f"at least {each * len(names)}, {each} of each of the {len(names)} classes"
                lines.append(f"assembly.{key} = {count}: should be {least}")
    return lines


def _taught(given: Sections, networks: Known, tasks: Known, names: Sequence[str]) -> Iterator[str]:
    """Teachers know the classes of the task; what those know that bring their own is seen later."""
    every, lego = set(range(len(names))), given.lego
    finetune = given.finetune
    asked = [("finetune.frozen", finetune.frozen, every), ("finetune.full", finetune.full, every)] if finetune else []
    if lego and lego.tuning:
        wanted = set().union(*(tasks.get(name) or set() for name in lego.components or ()))
        if lego.choose:
            wanted = _parsed(lego.choose.classes, names, "lego.choose.classes", []) or set()
        asked.append(("lego.tuning", lego.tuning, wanted))
    for key, tuning, wanted in asked:
        teacher, known = f"{key}.teacher = {tuning.teacher!r}", networks.get(tuning.teacher)
        if tuning.teacher == ENSEMBLE and networks:
            if all(own is not None and wanted - own for own in networks.values()):
                yield f"{teacher}: no network of the zoo knows all classes of the task"
        elif known is not None and (lacking := sorted(wanted - known)):
            yield f"{teacher}: does not know class {names[lacking[0]]!r}"


def _networks(zoo: Zoo, names: Sequence[str], lines: list[str]) -> dict[str, set[int] | None]:
    found: dict[str, set[int] | None] = {}
    for name, entry in zoo.models.items():
        key = f"zoo.models.{name}.classes"
        found[name] = None if entry.classes == "own" else _parsed(entry.classes, names, key, lines)
        if len(found[name] or (0, 1)) < 2:
            lines.append(f"{key} = {entry.classes!r}: is one class only; a network tells two or more apart")
    return found


def _disjoint(chosen: Sequence[str], tasks: Known, names: Sequence[str]) -> Iterator[str]:
    """Components that are assembled have no class in common."""
    for one, other in combinations([name for name in chosen if name in tasks], 2):
        if both := sorted((tasks[one] or set()) & (tasks[other] or set())):
            yield f"lego.components: {one} and {other} both have class {names[both[0]]!r}; take it from one"


def _chosen(choose: Choose, networks: Known, names: Sequence[str]) -> list[str]:
    lines: list[str] = []
    key = "lego.choose.classes"
    wanted = _parsed(choose.classes, names, key, lines) or set()
    known = [networks.get(model) for model in choose.models]
    if None not in known and (unknown := sorted(wanted - set().union(*(classes or set() for classes in known)))):
        who = ", ".join(choose.models)
        lines.append(f"{key} = {choose.classes!r}: none of {who} knows class {names[unknown[0]]!r}")
    if wanted and choose.least > len(wanted):
        lines.append(f"lego.choose.least = {choose.least}: should be at most {len(wanted)}, the number of its classes")
    return lines


def _parsed(text: str, names: Sequence[str], key: str, lines: list[str]) -> set[int] | None:
    try:
        return set(parse_classes(text, names, key))
    except BrickyardError as error:
        lines.append(str(error))
        return None
