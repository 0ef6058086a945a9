#!/usr/bin/env bash
# pillow-heif 1.8.1 loses the orientation of a picture that is saved with exif=<PIL.Image.Exif>, which Pillow takes for every format, so that
# the file shows it lying on its side: the orientation is looked for in bytes alone, and what fails on an Exif object is passed over. Then the
# reader, which trusts the file's own rotation, sets the EXIF orientation to 1, and nobody can tell any more which way was up.
# Seen: a picture of 96 x 64 with orientation 6 comes back as 96 x 64 from HEIC, and as 64 x 96 from HEIC with exif=exif.tobytes(), and from
# JPEG, PNG, WebP and AVIF with either.
# Usage: PYTHON=python3.11 findings/pillow_heif_exif_object.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" pillow-heif==1.8.1 pillow==13.0.0
"$folder/env/bin/python" - <<'CODE'
from io import BytesIO

import pillow_heif
from PIL import ExifTags, Image, ImageOps

pillow_heif.register_heif_opener()


def shown(format, form):
    """The size in which a picture of 96 x 64 is shown after it was saved with an orientation."""
    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Orientation] = 6  # turn by 90 degrees clockwise to show it
    Image.new("RGB", (96, 64)).save(file, format, exif=form(exif))
    return ImageOps.exif_transpose(Image.open(BytesIO(file.getvalue()))).size


found = {format: (shown(format, lambda exif: exif), shown(format, Image.Exif.tobytes)) for format in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")}
for format, (by_object, by_bytes) in found.items():
    print(f"pillow-heif 1.8.1, Pillow 13.0.0, {format:<4} exif=Exif: {by_object}, exif=bytes: {by_bytes}")
assert found.pop("HEIF") == ((96, 64), (64, 96)), "changed: HEIC keeps the orientation of an Exif object"
assert set(found.values()) == {((64, 96), (64, 96))}
CODE
