#!/usr/bin/env bash
# Pillow 13.0.0 opens a TIFF of 16-bit RGB whose channels lie one after another (PlanarConfiguration 2) without
# compression as an 8-bit RGB image of other pixels, and says nothing.  The same pixels with zlib, or with the
# channels side by side, are right: the high byte of each value.
#
# Seen: with separate planes and no compression under 2 % of the values are the high bytes; the first plane is
# read as if its values were bytes.
# What it means: a microscope's or scanner's export can train a model on noise.  A reader has to look at the tags
# PlanarConfiguration, Compression and BitsPerSample before it believes in the pixels.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
cd "$place"
venv/bin/python - <<'PY'
import numpy as np
import tifffile
from PIL import Image

x = (np.arange(16 * 16 * 3).reshape(16, 16, 3) * 80 % 65536).astype(np.uint16)
shares = {}
for planes in ("contig", "separate"):
    for compression in (None, "zlib"):
        stored = x if planes == "contig" else x.transpose(2, 0, 1)
        tifffile.imwrite("a.tif", stored, photometric="rgb", planarconfig=planes, compression=compression)
        assert np.array_equal(tifffile.imread("a.tif"), stored), "the file is valid: another reader has its values"
        image = Image.open("a.tif")
        assert image.mode == "RGB" and image.size == (16, 16)
        share = float((np.asarray(image) == x >> 8).mean())
        shares[planes, compression] = share
        print(f"{planes:9} {compression or 'none':5} share of values that are the high byte: {share:.3f}")
right = {key for key, share in shares.items() if share == 1}
assert right == {("contig", None), ("contig", "zlib"), ("separate", "zlib")}, "the behaviour has changed"
assert shares["separate", None] < 0.02, "the behaviour has changed"
print("as described")
PY
