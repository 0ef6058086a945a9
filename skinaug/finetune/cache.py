"""VAE moments and text states, computed once and kept on disk: what an entry depends on is in its file's name.

    <cache>/moments/<VAE's digest>-<precision>-<version>.<decoding>/<size>/<2 digits>/<picture's SHA-256>.<crop>[m].safetensors
    <cache>/text/<encoder's digest>/<2 digits>/<text's SHA-256>.safetensors

So an edited picture, another network or another size is another entry, and none goes stale. Any number of processes may share
a cache.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from rich import get_console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text
from torch import Tensor

from skinaug.errors import InputError
from skinaug.finetune.entries import is_whole, read, write
from skinaug.finetune.latents import to_signal
from skinaug.finetune.moments import Moments
from skinaug.images import DECODING, open_image, square
from skinaug.manifest import Manifest
from skinaug.models.digest import module_digest
from skinaug.models.families.family import gaussian, stacked
from skinaug.models.precision import overflows
from skinaug.store.digest import sha256_file

VERSION = 2  # raised when this code makes other moments of the same pixels
RECENT_TEXTS = 256  # whose files stay mapped
LEAST_SCALE = 0.8  # of a crop's side, relative to the picture's short side
EncodeImages = Callable[[Any, Tensor], tuple[Tensor, Tensor]]


class View(NamedTuple):
    """Pixels (uint8 [S, S, 3]) of a picture that are still to encode, and the file that the moments go to."""

    picture: Path
    file: Path
    pixels: np.ndarray


def encode_moments(
    vae: Any,
    manifest: Manifest,
    size: int,
    crops: int,
    mirror: bool,
    device: torch.device,
    batch_size: int,
    cache: Path,
    encode: EncodeImages = gaussian,
) -> Moments:
    """Encode what the cache has not, in the autocast that the caller is in; entries are float16.

    Crop 0 is the central square (`images.square`), others are `random_square`s. Processes that start together share the
    work. The precision of the network's arithmetic is part of an entry's name; the device is not, which changes less than
    float16 keeps. An autoencoder that overflows in float16 (`force_upcast`), or does not say, works in its own dtype
    there.

    Args:
        vae: an autoencoder; moved to `device` if there is something to encode.
        size: pixels a side.
        batch_size: views that are encoded at once.
        encode: makes mean and deviation of images (`Family.moments`).

    Raises:
        InputError: a picture that was edited after its manifest was made, or moments that are no numbers.
    """
    autocast = _autocast_dtype(vae, device)
    precision = str(autocast or vae.dtype).removeprefix("torch.")
    folder = cache / "moments" / f"{module_digest(vae)}-{precision}-{VERSION}.{DECODING}" / str(size)
    moments = Moments(folder, tuple(manifest.table["sha256"]), crops, mirror)
    missing = _missing_rows(moments)
    if missing:
        vae.to(device).eval()
        paths = manifest.paths()
        jobs = (partial(_missing_views, moments, row, paths[row], size) for row in missing)
        with ThreadPoolExecutor() as pool, _progress() as progress:
            decoded = _ahead(pool, jobs, 2 * batch_size)
            found = progress.track(decoded, total=len(missing), description="encoding images")
            views = chain.from_iterable(found)
            while batch := list(islice(views, batch_size)):
                _encode(encode, vae, batch, batch_size, device, autocast)
    return moments


@torch.no_grad()
def _encode(
    encode: EncodeImages,
    vae: Any,
    batch: Sequence[View],
    batch_size: int,
    device: torch.device,
    autocast: torch.dtype | None,
) -> None:
    """Write the moments of up to `batch_size` views.

    A smaller batch is filled up with repetitions: a batch's size decides the last bits of what some kernels return, and an
    interrupted run is to end as an uninterrupted one.
    """
    pixels = np.stack([view.pixels for view in batch])
    pixels = np.resize(pixels, (batch_size, *pixels.shape[1:]))
    images = to_signal(torch.from_numpy(pixels).to(device)).to(vae.dtype)
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        moments = encode(vae, images)
    entries = torch.stack(moments, 1)[: len(batch)].to("cpu", torch.float16)
    finite = entries.isfinite().flatten(1).all(1).tolist()
    bad = dict.fromkeys(str(view.picture) for view, good in zip(batch, finite, strict=True) if not good)
    if bad:
        raise InputError(
            f"The base's autoencoder makes numbers that are not finite, in {autocast or vae.dtype}, of "
            f"{', '.join(bad)}. Set trainer.precision=32-true, or use a base with an intact autoencoder."
        )
    for view, entry in zip(batch, entries, strict=True):
        write(view.file, {"moments": entry})


def seen(image: Image.Image, size: int, digest: str, crop: int, mirrored: bool) -> np.ndarray:
    """What a view shows of the picture with that SHA-256, or of its mask: uint8 [size, size, 3]."""
    pixels = random_square(image, size, digest, crop) if crop else square(image, size)
    return pixels[:, ::-1] if mirrored else pixels


def random_square(image: Image.Image, size: int, digest: str, crop: int) -> np.ndarray:
    """Crop number `crop` >= 1 of the picture with that SHA-256, resized with antialiasing: uint8 [size, size, 3].

    Its side is 80 to 100 % of the short side and its place is random, both uniform: the same part of the picture at any
    size.
    """
    scale, across, down = np.random.default_rng([int(digest, 16), crop]).random(3)
    side = min(image.size) * (LEAST_SCALE + (1 - LEAST_SCALE) * scale)
    left, top = across * (image.width - side), down * (image.height - side)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))


def _autocast_dtype(vae: Any, device: torch.device) -> torch.dtype | None:
    """What the encoder's arithmetic is cast to; None where it keeps its own dtype."""
    if not torch.is_autocast_enabled(device.type):
        return None
    return None if overflows(vae, device.type) else torch.get_autocast_dtype(device.type)


def _missing_rows(moments: Moments) -> list[int]:
    """Rows with a view to encode, one for each distinct picture, in an order that differs between processes."""
    row_of = {digest: row for row, digest in enumerate(moments.digests)}
    rows = [row for row in row_of.values() if _absent(moments, row)]
    return np.random.default_rng().permutation(rows).tolist()


def _absent(moments: Moments, row: int) -> list[int]:
    return [view for view in range(moments.views) if not is_whole(moments.path(row, view))]


def _missing_views(moments: Moments, row: int, picture: Path, size: int) -> list[View]:
    """Decode a picture for the views that no other process has encoded meanwhile."""
    absent, digest = _absent(moments, row), moments.digests[row]
    if not absent:
        return []
    if sha256_file(picture) != digest:
        raise InputError(
            f"{picture} is not the file that its manifest lists: its SHA-256 is not {digest}. Build the dataset again."
        )
    image = open_image(picture)
    found = []
    for view in absent:
        crop, mirrored = moments.which(view)
        found.append(View(picture, moments.path(row, view), seen(image, size, digest, crop, mirrored)))
    return found


def _ahead(pool: ThreadPoolExecutor, jobs: Iterator[Callable[[], Any]], count: int) -> Iterator[Any]:
    """The jobs' results in order; at most `count` of them are under way or wait, which bounds the memory they take."""
    waiting = deque(pool.submit(job) for job in islice(jobs, count))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(job) for job in islice(jobs, 1))


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} images/s" if speed else "")


def _progress() -> Progress:
    disable = not get_console().is_terminal or rank_zero_only.rank != 0
    return Progress(*Progress.get_default_columns(), _Rate(), transient=True, disable=disable)


class TextStates:
    """A frozen text encoder's states: each distinct text is encoded once, by whichever process needs it first.

    Args:
        encode: texts to named tensors [B, ...], each text's alone its own row.
        digest: of all that decides the states beside the text: networks, tokenizer, precision.
        cache: folder of this module's entries.
    """

    def __init__(self, encode: Callable[[list[str]], dict[str, Tensor]], digest: str, cache: Path) -> None:
        self.encode, self.folder = encode, cache / "text" / digest
        self.recent: dict[str, dict[str, Tensor]] = {}

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """States of the texts as `encode` names them: [B, ...] on the CPU, in the dtype that `encode` gave, zeros after the end of
        those that are shorter."""
        distinct = dict.fromkeys(texts)
        self._encode([text for text in distinct if text not in self.recent and not is_whole(self.path(text))])
        states = {text: self.recent.get(text) or read(self.path(text)) for text in distinct}
        self.recent = dict(islice((states | self.recent).items(), RECENT_TEXTS))
        return stacked([states[text] for text in texts])

    def encode_all(self, texts: Iterable[str]) -> None:
        """Encode those that nobody has, each alone: what stands beside a text decides the last bits of some kernels. Processes that
        start together share the work."""
        absent = [text for text in dict.fromkeys(texts) if not is_whole(self.path(text))]
        for number in np.random.default_rng().permutation(len(absent)):
            if not is_whole(self.path(absent[number])):
                self._encode([absent[number]])

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> None:
        encoded = self.encode(texts) if texts else {}
        on_cpu = {name: states.cpu() for name, states in encoded.items()}
        for row, text in enumerate(texts):
            write(self.path(text), {name: states[row].clone() for name, states in on_cpu.items()})

    def path(self, text: str) -> Path:
        """File of a text's states."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"
