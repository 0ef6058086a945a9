#!/usr/bin/env bash
# isic-challenge-scoring 5.8.0 refuses a ground truth that is submitted as it is, a perfect prediction, where images are named by numbers,
# end in .jpg, or one is called NA: it turns the names of a submission into text and cuts .jpg off, and leaves the truth's as pandas
# reads them. It also refuses a file of two lines or more whose first two are longer than 2,000 characters together, as 114 classes make.
# Seen: "Missing images in CSV" with all the names, and "No newlines detected in CSV". The same tables with names such as ISIC_0 score 1.
# Usage: PYTHON=python3.13 findings/isic_challenge_scoring_names.sh   (it needs Python 3.13 or later)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.13}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  isic-challenge-scoring==5.8.0 pandas==3.1.1 numpy==2.5.5 scikit-learn==1.9.1
"$folder/env/bin/python" -W ignore - <<'CODE'
from io import StringIO

from isic_challenge_scoring import ClassificationMetric, ClassificationScore, ScoreError


def truth(names, classes):
    """Images in turns of each class."""
    rows = [[name, *("1.0" if n % len(classes) == c else "0.0" for c in range(len(classes)))] for n, name in enumerate(names)]
    return "".join(",".join(row) + "\n" for row in [["image", *classes], *rows])


def score(table):
    """Of a truth as its own prediction: balanced accuracy, or why it is refused."""
    try:
        return ClassificationScore.from_stream(StringIO(table), StringIO(table), ClassificationMetric.BALANCED_ACCURACY).overall
    except ScoreError as error:
        return str(error)


few, many = ["melanoma", "naevus"], [f"condition number {number:03d}" for number in range(114)]
found = {
    "ISIC_0 ...": score(truth([f"ISIC_{number}" for number in range(4)], few)),
    "101 ...": score(truth(["101", "102", "103", "104"], few)),
    "0.jpg ...": score(truth([f"{number}.jpg" for number in range(4)], few)),
    "NA ...": score(truth(["NA", "NB", "NC", "ND"], few)),
    "114 classes": score(truth([f"ISIC_{number}" for number in range(228)], many)),
}
for case, result in found.items():
    print(f"isic-challenge-scoring 5.8.0, {case:<12} {str(result)[:90]}")
assert found.pop("ISIC_0 ...") == 1.0
assert str(found.pop("114 classes")).startswith("No newlines detected"), "changed: a long header is taken"
assert all(str(result).startswith("Missing images in CSV") for result in found.values()), "changed: names are read alike"
CODE
