#!/usr/bin/env bash
# Pillow 13.0.0 takes the orientation out of an Exif object that is handed to it for an AVIF file: what is saved with the same object after
# that, in whatever format, has none and lies on its side. The AVIF file itself is right.
# Seen: 6 before, nothing after; a JPEG file that is saved before is shown as 64 x 96, the same JPEG file saved after as 96 x 64. No other
# format of the five changes the object.
# Usage: PYTHON=python3.11 findings/pillow_avif_takes_orientation.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" pillow==13.0.0
"$folder/env/bin/python" - <<'CODE'
from io import BytesIO

from PIL import ExifTags, Image, ImageOps

picture, exif = Image.new("RGB", (96, 64)), Image.Exif()
exif[ExifTags.Base.Orientation] = 6  # turn by 90 degrees clockwise to show it


def shown(format):
    """The size in which the picture is shown after it was saved with the Exif object."""
    file = BytesIO()
    picture.save(file, format, exif=exif)
    return ImageOps.exif_transpose(Image.open(BytesIO(file.getvalue()))).size


found = []
for format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "JPEG"):
    size = shown(format)
    found.append((size, exif.get(ExifTags.Base.Orientation)))
    print(f"Pillow 13.0.0, {format:<4} is shown as {size}; the Exif object has the orientation {found[-1][1]} then")
assert found[:4] == [((64, 96), 6)] * 4
assert found[4][0] == (64, 96)
assert found[4:] == [((64, 96), None), ((96, 64), None)], "changed: AVIF leaves the object as it is"
CODE
