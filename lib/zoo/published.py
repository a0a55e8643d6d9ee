"""Networks of timm and torchvision by name, and which of their arguments would fetch something."""

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..base.errors import BrickyardError

_FETCHING = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_custom_load"),
    *("checkpoint_path", "checkpoint", "cache_dir", "weights", "weights_backbone", "state_dict", "state_dict_path"),
    *("hf_hub_id", "hf_hub_filename", "url", "file", "model_name"),
)
_PLACES = ("hf-hub:", "hf_hub:", "local-dir:", "file:", "http:", "https:", "s3:")


def refuse_fetching(value: Any, who: str) -> None:
    """Raises BrickyardError where arguments, nested ones too, name weights, files or places to load from."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in _FETCHING or str(key).startswith("__"):
                raise BrickyardError(f"{who}: kwargs.{key} loads files or weights; that is what `weights:` is for")
            refuse_fetching(item, who)
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_fetching(item, who)
    elif isinstance(value, str) and value.lower().startswith(_PLACES):
        raise BrickyardError(f"{who}: kwargs hold {value!r}, a place to load from; that is what `weights:` is for")


def build_timm(name: str, num_classes: int | None, kwargs: Mapping[str, Any], pretrained: bool) -> nn.Module:
    """An architecture of timm's; raises BrickyardError where there is none, or it refuses its arguments."""
    import timm

    if not timm.is_model(name) or ":" in name or "/" in name:
        raise BrickyardError(f"timm has no architecture {name!r}{_similar(name, timm.list_models())}")
    refuse_fetching(kwargs, f"timm {name}")
    try:
        return timm.create_model(name, pretrained=pretrained, **with_classes(num_classes, kwargs))
    except Exception as error:  # whatever an architecture raises on arguments it does not take
        raise told(f"timm {name} with {dict(kwargs)}", error) from error


def build_torchvision(name: str, num_classes: int | None, kwargs: Mapping[str, Any], pretrained: bool) -> nn.Module:
    """A classifier of torchvision's, with the weights of its `torchvision_weights`; raises BrickyardError likewise."""
    from torchvision import models

    weights = torchvision_weights(name) if pretrained or "." in name else None
    base = _torchvision(name)
    refuse_fetching(kwargs, f"torchvision {name}")
    try:
        return models.get_model(base, weights=weights if pretrained else None, **with_classes(num_classes, kwargs))
    except Exception as error:  # whatever an architecture raises on arguments it does not take
        raise told(f"torchvision {name} with {dict(kwargs)}", error) from error


def torchvision_weights(name: str) -> Any:
    """Those of torchvision that a name means, with their `transforms` and `meta`: by their tag behind a dot, such as
    `resnet50.IMAGENET1K_V1`, else the default ones. Raises BrickyardError where there are none.
    """
    from torchvision import models

    base, tag = _torchvision(name), name.partition(".")[2]
    found: Any = models.get_model_weights(base)
    tags = [weights.name for weights in found]
    if tag and tag not in tags:
        raise BrickyardError(f"torchvision {base} has no weights {tag!r}; it has {', '.join(tags)}")
    return found[tag or "DEFAULT"]


def _torchvision(name: str) -> str:
    """A classifier of torchvision's, without the tag of weights; raises BrickyardError where there is none."""
    from torchvision import models

    base, known = name.partition(".")[0], models.list_models(module=models)
    if base not in known:
        raise BrickyardError(f"torchvision has no classifier {base!r}{_similar(base, known)}")
    return base


def with_classes(num_classes: int | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a builder: lists as tuples, num_classes unless it keeps its own."""
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return arguments if num_classes is None else {**arguments, "num_classes": num_classes}


def told(who: str, error: BaseException) -> BrickyardError:
    """What foreign code raised, in one line."""
    if isinstance(error, BrickyardError):
        return BrickyardError(f"{who}: {error}")
    return BrickyardError(f"{who}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _similar(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:100], known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""
