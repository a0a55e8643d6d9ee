"""What one section of `params.yaml` says of another: names that must be there, numbers that must fit."""

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise

from .assembly import Assembly, place
from .sections import Sections
from .training import BUDGET, ENSEMBLE, Training
from .zoo import Zoo, ZooModel


def mistakes(given: Sections) -> list[str]:
    """A line for each mistake; what concerns a section that is not there is not looked at."""
    return [*_names(given), *_mda(given), *_dery(given), *_training(given)]


def _names(given: Sections) -> Iterator[str]:
    """Names that are folders, too: some file systems take those that differ in case only for one."""
    named = {
        "zoo.models": given.zoo.models if given.zoo else (),
        "components.tasks": given.components.tasks if given.components else (),
    }
    for where, names in named.items():
        known: dict[str, str] = {}
        for name in names:
            if (other := known.setdefault(name.lower(), name)) != name:
                yield f"{where}.{name}: differs from {other} in case only, which some file systems take for one name"


def _mda(given: Sections) -> Iterator[str]:
    zoo, contributions, components, lego = given.zoo, given.contributions, given.components, given.lego
    if contributions and zoo:
        named = ((f"contributions.models.{i}", name) for i, name in enumerate(contributions.models))
        yield from _unknown(named, zoo.models, "zoo.models")
    if contributions and components:
        named = ((f"components.tasks.{name}.model", task.model) for name, task in components.tasks.items())
        yield from _unknown(named, contributions.models, "contributions.models")
    if lego and components:
        named = ((f"lego.components.{i}", name) for i, name in enumerate(lego.components or ()))
        yield from _unknown(named, components.tasks, "components.tasks")
        if zoo and lego.form == "padded":
            models = {name: components.tasks[name].model for name in lego.components or () if name in components.tasks}
            yield from _alike({name: model for name, model in models.items() if model in zoo.models}, zoo)
    if lego and lego.choose and contributions:
        named = ((f"lego.choose.models.{i}", name) for i, name in enumerate(lego.choose.models))
        yield from _unknown(named, contributions.models, "contributions.models")


def _alike(models: Mapping[str, str], zoo: Zoo) -> Iterator[str]:
    """Components are padded layer by layer: their networks differ in classes and weights only. models: by component."""
    for (one, first), (other, second) in pairwise(models.items()):
        a, b = zoo.models[first], zoo.models[second]
        if any(getattr(a, field) != getattr(b, field) for field in ("timm", "torchvision", "factory", "kwargs")):
            both = f"{one} (from {first}) and {other} (from {second})"
            yield f"lego.form = 'padded': {both} differ in architecture; write parallel"


def _dery(given: Sections) -> Iterator[str]:
    zoo, partition, assembly, finetune = given.zoo, given.partition, given.assembly, given.finetune
    similarity, dataset, edges = given.similarity, given.dataset, given.edges
    if similarity and dataset and similarity.batch_images and similarity.batch_images > dataset.probe_images:
        yield (
            f"similarity.batch_images = {similarity.batch_images}: should be at most dataset.probe_images = "
            f"{dataset.probe_images}, or null"
        )
    if similarity and dataset and similarity.index == "cka_debiased" and dataset.probe_images < 4:
        yield f"dataset.probe_images = {dataset.probe_images}: should be at least 4, which the unbiased HSIC needs"
    if assembly and zoo:
        for key, lenders in (("include", assembly.include), ("exclude", assembly.exclude)):
            named = ((f"assembly.{key}.{i}", place(lender)[0]) for i, lender in enumerate(lenders))
            yield from _unknown(named, zoo.models, "zoo.models")
        yield from _lenders(assembly, zoo)
    if assembly:
        yield from _windows(assembly)
    if assembly and partition:
        yield from _blocks(assembly, partition.num_blocks, zoo)
    if edges and partition and edges.window > max(partition.num_blocks - 2, 0):
        yield (
            f"edges.window = {edges.window}: should be at most partition.num_blocks - 2 = "
            f"{max(partition.num_blocks - 2, 0)}, the distance of the first inner cut from the last"
        )
    if edges and assembly and edges.window and assembly.score == "cka":
        yield "edges.window: its stitches have no CKA; write assembly.score: stitch_r2, or replace_one"
    if finetune and assembly:
        for i, rank in enumerate(finetune.ranks):
            if rank > assembly.pool:
                yield f"finetune.ranks.{i} = {rank}: should be at most assembly.pool = {assembly.pool}"


def _windows(assembly: Assembly) -> Iterator[str]:
    """Whether anything lies between lower and upper limits."""
    most = assembly.budget.limits()
    for kind, least in assembly.budget.at_least.limits().items():
        if kind in most and least > most[kind]:
            upper = f"assembly.budget.{kind} = {most[kind]:g}"
            yield f"assembly.budget.at_least.{kind} = {least:g}: should be at most {upper}"


def _blocks(assembly: Assembly, blocks: int, zoo: Zoo | None) -> Iterator[str]:
    """Whether a candidate of so many blocks can be as it should."""
    if assembly.min_sources > blocks:
        yield f"assembly.min_sources = {assembly.min_sources}: should be at most partition.num_blocks = {blocks}"
    runs = None if assembly.max_stitches is None else assembly.max_stitches + 1
    if runs is not None and assembly.min_sources > runs:
        yield f"assembly.min_sources = {assembly.min_sources}: should be at most assembly.max_stitches + 1 = {runs}"
    if assembly.differ_by > blocks:
        yield f"assembly.differ_by = {assembly.differ_by}: should be at most partition.num_blocks = {blocks}"
    for key, lenders in (("include", assembly.include), ("exclude", assembly.exclude)):
        for i, (name, number) in enumerate(map(place, lenders)):
            if number is not None and number > blocks:
                yield f"assembly.{key}.{i} = '{name}:{number}': blocks go from 1 to partition.num_blocks = {blocks}"
    fixed = [name for name, number in map(place, assembly.include) if number is not None]
    elsewhere = {name for name, _ in map(place, assembly.include)} - set(fixed)
    if len(fixed) + len(elsewhere) > blocks:
        yield f"assembly.include = {assembly.include}: needs more than partition.num_blocks = {blocks} blocks"
    if runs is not None and len({name for name, _ in map(place, assembly.include)}) > runs:
        yield f"assembly.include = {assembly.include}: needs more than assembly.max_stitches = {runs - 1} stitches"
    for number in sorted({number for _, number in map(place, assembly.exclude) if number}):
        if zoo and all(name in assembly.exclude or f"{name}:{number}" in assembly.exclude for name in zoo.models):
            yield f"assembly.exclude = {assembly.exclude}: no network is left for block {number}"


def _lenders(assembly: Assembly, zoo: Zoo) -> Iterator[str]:
    """Whether enough networks may lend blocks."""
    licences = {name: entry.licence for name, entry in zoo.models.items()}
    allowed = set(licences.values()) if assembly.licences is None else set(assembly.licences)
    if not allowed & set(licences.values()):
        known = ", ".join(sorted(set(licences.values())))
        yield f"assembly.licences = {assembly.licences}: the zoo's networks are under {known}"
        return
    for i, lender in enumerate(assembly.include):
        name, _ = place(lender)
        if name in licences and licences[name] not in allowed:
            yield f"assembly.include.{i} = {lender!r}: its licence {licences[name]!r} is not one of assembly.licences"
    left = [name for name, licence in licences.items() if name not in assembly.exclude and licence in allowed]
    if len(left) < assembly.min_sources:
        which = f": {', '.join(left)}" if left else ""
        yield f"assembly.min_sources = {assembly.min_sources}: {len(left)} networks may lend blocks{which}"


def _training(given: Sections) -> Iterator[str]:
    """Settings that a training here cannot follow."""
    if given.zoo:
        lines = (
            line
            for name, entry in given.zoo.models.items()
            if entry.weights == "train"
            for line in _entry(name, entry, given.zoo.training)
        )
        yield from dict.fromkeys(lines)  # a default may be wrong for several entries
    for key, tuning in (
        ("lego.tuning", given.lego and given.lego.tuning),
        ("components.tuning", given.components and given.components.tuning),
    ):
        if tuning:
            yield from _trained(tuning, f"{key}.{{}}".format)
    if given.finetune:
        for key, protocol in (("finetune.frozen", given.finetune.frozen), ("finetune.full", given.finetune.full)):
            yield from _divided(protocol, f"{key}.{{}}".format)
    yield from _teachers(given)


def _teachers(given: Sections) -> Iterator[str]:
    """Names of teachers; `budget` needs one."""
    finetune, lego = given.finetune, given.lego
    named = {"finetune.frozen": finetune.frozen, "finetune.full": finetune.full} if finetune else {}
    if lego and lego.tuning:
        named["lego.tuning"] = lego.tuning
        if lego.tuning.distillation > 0 and lego.tuning.teacher == BUDGET and lego.choose is None:
            yield (f"lego.tuning.teacher = '{BUDGET}': lego.choose alone has one; write {ENSEMBLE} or a network's name")
    if given.zoo:
        networks, words = given.zoo.models, (BUDGET, ENSEMBLE)
        teachers = {f"{key}.teacher": tuning.teacher for key, tuning in named.items()}
        yield from _unknown(
            ((key, name) for key, name in teachers.items() if name not in words), networks, "zoo.models"
        )
        for key, name in teachers.items():
            if name in words and name in networks:
                yield f"{key} = {name!r}: zoo.models.{name} has this name, too; call it otherwise"


def _entry(name: str, entry: ZooModel, defaults: Training) -> Iterator[str]:
    """Of a network that is trained here."""
    settings = entry.override(defaults)
    yield from _trained(settings, partial(entry.place, name))
    if settings.distillation > 0:
        where = entry.place(name, "distillation")
        yield f"{where} = {settings.distillation:g}: there is no teacher here; set it to 0"
    padding = settings.augmentation.crop_padding
    if entry.input_size is not None and padding > entry.input_size:
        where, most = entry.place(name, "augmentation.crop_padding"), f"zoo.models.{name}.input_size"
        yield f"{where} = {padding}: should be at most {most} = {entry.input_size}"


def _trained(settings: Training, place: Callable[[str], str]) -> Iterator[str]:
    """place: at which key a setting stands."""
    if settings.epochs == 0:
        yield f"{place('epochs')} = 0: should be at least 1 to train anything here"
    yield from _divided(settings, place)


def _divided(settings: Training, place: Callable[[str], str]) -> Iterator[str]:
    """Whether each micro-batch has two images or more."""
    most = settings.batch_size // 2
    if settings.accumulate > most:
        where = f"half of {place('batch_size')} = {settings.batch_size}"
        yield f"{place('accumulate')} = {settings.accumulate}: should be at most {most}, {where}"


def _unknown(named: Iterable[tuple[str, str]], known: Collection[str], where: str) -> Iterator[str]:
    """A line for each (key, name) whose name is not one of `known`, which stand at the key `where`."""
    for key, name in named:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f"did you mean {close[0]}?" if close else ", ".join(list(known)[:20])
            yield f"{key} = {name!r}: is not one of {where}; {hint}"
