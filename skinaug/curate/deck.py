"""The pictures in the order in which a reviewer judges them, and where the reviewer stands."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from itertools import chain
from pathlib import Path

from skinaug.curate.decisions import IMAGE, forget, read_own, record
from skinaug.manifest import Manifest

SHOWN = ("image_id", "sha256", "label", "path", "prompt")


class Deck:
    """One reviewer's way through a pool.

    The order is by class and then by a hash of the image id: the same for every reviewer, so that those who judge a part
    only have judged the same part, which their agreement is computed on; and without pictures of one prompt in a row.

    Attributes:
        images: SHOWN of the pool's rows as dicts, in that order.
        totals: number of pictures by class, in the classes' order.
        judged: decision by position in `images`.
        label: the class that is shown, None for all.
        show: unreviewed, all, or (my) rejects.
        queue: positions of the pictures that were to be shown when label and show were chosen. It stays as it is while they
            are judged, so that one can go back.
        place: the current one in `queue`; its length at the end.
    """

    def __init__(self, pool: Manifest, folder: Path, reviewer: str) -> None:
        self.folder, self.reviewer = folder, reviewer
        order = {label: position for position, label in enumerate(pool.classes)}
        shown = [name for name in SHOWN if name in pool.table.columns]
        self.images = sorted(
            pool.table.select(shown).to_dicts(),
            key=lambda row: (order[row["label"]], sha256(row["image_id"].encode()).hexdigest()),
        )
        self.totals = Counter(image["label"] for image in self.images)
        self.positions = {(image["image_id"], image["sha256"]): at for at, image in enumerate(self.images)}
        self.select(None, "unreviewed")

    def select(self, label: str | None, show: str) -> None:
        """Show another class or other pictures of it, from the first that is not judged."""
        self.label, self.show = label, show
        self.reload()
        wanted = {"unreviewed": None, "rejects": "reject"}
        self.queue = [
            at
            for at, image in enumerate(self.images)
            if label in (None, image["label"]) and (show == "all" or self.judged.get(at) == wanted[show])
        ]
        self.place = next((place for place, at in enumerate(self.queue) if at not in self.judged), 0)

    def reload(self) -> None:
        """Read the reviewer's file: another page may have written to it."""
        own = read_own(self.folder, self.reviewer).select(*IMAGE, "decision")
        found = ((self.positions.get((image_id, digest)), word) for image_id, digest, word in own.iter_rows())
        self.judged = {at: word for at, word in found if at is not None}

    @property
    def current(self) -> int | None:
        """Position of the picture to judge, None at the end."""
        return self.queue[self.place] if self.place < len(self.queue) else None

    def decide(self, word: str) -> None:
        """Write a decision about the current picture, then go on."""
        if self.current is not None:
            image = self.images[self.current]
            record(self.folder, self.reviewer, image["image_id"], image["sha256"], word)
            self.reload()
            self.next()

    def next(self) -> None:
        """The picture after this one; of unreviewed ones, those that were skipped come again."""
        if self.show != "unreviewed":
            self.place = min(self.place + 1, len(self.queue))
            return
        end = len(self.queue)
        after = chain(range(self.place + 1, end), range(min(self.place + 1, end)))
        self.place = next((place for place in after if self.queue[place] not in self.judged), end)

    def previous(self) -> None:
        """The picture before this one, judged or not."""
        self.place = max(self.place - 1, 0)

    def undo(self) -> bool:
        """Take back the reviewer's latest decision about this pool and show its picture; False where there is none."""
        self.reload()
        if not self.judged:
            return False
        latest = list(self.judged)[-1]  # the file's last row is the latest decision
        image = self.images[latest]
        forget(self.folder, self.reviewer, image["image_id"], image["sha256"])
        self.reload()
        if latest not in self.queue:  # judged under another choice of class
            self.queue.insert(self.place, latest)
        self.place = self.queue.index(latest)
        return True

    def counts(self) -> dict[str, tuple[int, int]]:
        """By class, in the classes' order: the numbers of pictures that are judged and of all."""
        judged = Counter(self.images[at]["label"] for at in self.judged)
        return {label: (judged[label], total) for label, total in self.totals.items()}
