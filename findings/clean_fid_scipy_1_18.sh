#!/usr/bin/env bash
# clean-fid 0.1.35 (the newest) computes no FID beside SciPy 1.18: it gives scipy.linalg.sqrtm the argument `disp`, which SciPy has
# removed, and it pins no upper bound. On Python 3.12 and later an unpinned installation brings these two together.
# Seen: TypeError: sqrtm() got an unexpected keyword argument 'disp'. Two sets of 200 features of 8 numbers, nothing unusual in them.
# Usage: PYTHON=python3.13 findings/clean_fid_scipy_1_18.sh   (Python 3.12 or later; SciPy 1.18 needs it)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  clean-fid==0.1.35 scipy==1.18.1 torch==2.15.0 torchvision==0.29.2
"$folder/env/bin/python" - <<'CODE'
import numpy as np
import scipy
from cleanfid.fid import frechet_distance

features = np.random.default_rng(0).normal(size=(2, 200, 8))
moments = [part for one in features for part in (one.mean(0), np.cov(one, rowvar=False))]
try:
    distance = frechet_distance(*moments)
except TypeError as error:
    assert "disp" in str(error), error
    print(f"clean-fid 0.1.35 with SciPy {scipy.__version__}: TypeError: {error}")
else:
    raise SystemExit(f"changed: clean-fid found a distance of {distance:.4f} with SciPy {scipy.__version__}")
CODE
