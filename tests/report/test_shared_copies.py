"""What a report tells of pictures that the data's own splits shared."""

from __future__ import annotations

import json

from skinaug.report import collect, text


def test_pictures_that_left_training_are_counted(make_sweep):
    study = collect.make_study(
        collect.read_runs(make_sweep(arms={"real": (4, 0, 0.5)}, seeds=1, tests=2, size=16))
    )
    assert list(text.shared_copies(study)) == []
    (folder,) = study.artifacts("dataset")
    dropped = {"copy of a picture of the split test": 6, "copy of a picture of the split val": 1, "copy": 3}
    (folder / "summary.json").write_text(json.dumps({"dropped": dropped}))
    assert list(text.shared_copies(study)) == [
        "6 training or validation photographs are left out, near-copies of test photographs in the data's own splits.",
        "1 training photograph is left out, near-copies of validation photographs in the data's own splits.",
    ]
