"""Our adaptive coder and NNCodec's (ISO/IEC 15938-17), at equal quantization indices: bytes of the payloads, layer by layer.

    python tests/interop/nncodec.py FILE.tq …      files that `waterfill compress --coding depths` or `entropy` wrote

Needs numpy and the deepCABAC extension of PyPI's `nncodec` (2.1.3: `pip install nncodec`, which compiles it; or put its folder on PYTHONPATH).
NNCodec gets the coefficients' indices, of rows that are stored, as a matrix. Its smallest payload of each layer counts, over all scan orders, lengths
of its unary part, with optimised parameters and without, and with rows of zeros skipped or not. Ours is the whole body of the layer's section, less what the bases
take: it holds steps, scales and blocks as well, which NNCodec's payload does not.
"""

import json
import os
import struct
import sys
import zlib

import numpy as np

# In place of this folder: this file has the package's name.
sys.path[0] = os.path.join(os.path.dirname(__file__), "../../docs")
import tq  # noqa: E402

try:
    from nncodec.extensions import deepCABAC
except (ImportError, OSError):
    import deepCABAC


def nncodec(q, trellis):
    """Bytes of NNCodec's smallest payload of a matrix of indices, those of its dependent quantization with a trellis."""

    def payload(unary, optimised, scan, skip):
        encoder = deepCABAC.Encoder()
        encoder.initCtxModels(unary, optimised)
        zero_rows = np.array([0 if row.any() else 1 for row in q], np.int32)
        off = (deepCABAC.HdspMode.AlwaysOff, np.zeros(2, np.int8))
        encoder.encodeLayer(q, trellis, scan, 1, 0, skip, zero_rows, *off, 0, 0)
        return len(encoder.finish())

    choices = [(u, o, s, k) for u in (3, 5, 11, 17, 33) for o in (0, 1) for s in range(4) for k in (0, 1)]
    return min(payload(*choice) for choice in choices)


def layers(path):
    """Name, indices of stored rows, bytes without the bases, of every layer."""
    data = open(path, "rb").read()
    at, bodies, meta = 8, [], None
    while chr(data[at]) != "E":
        kind, length = chr(data[at]), struct.unpack_from("<I", data, at + 1)[0]
        body, at = data[at + 5 : at + 5 + length], at + 9 + length
        if kind == "M":
            meta = json.loads(zlib.decompress(body[8:], -15))
        elif kind in "LX":
            bodies.append((kind, body))
    entries = [t for t in meta["tensors"] if t["place"] == "section"]
    for entry, (kind, body) in zip(entries, bodies):
        if kind == "L":
            assert body[1] == 1, "write the file with --coding depths or entropy"
            q = entry["role"]["layer"]
            found = {}
            planes = tq.plane

            def plane(r, rows, width, period, used, trellis=0, restarts=False):
                # Of the range coder from the start, and raw bits from the end.
                read = lambda: 8 * r.at - np.log2(float(r.range)) + r.taken
                before = read()
                indices = planes(r, rows, width, period, used, trellis, restarts)
                found["trellis"] = int(trellis > 0)
                found["bits"] = read() - before
                found["last"] = np.ascontiguousarray(indices[np.array(used, bool)], np.int32)
                found["planes"] = found.get("planes", 0) + found["bits"]
                return indices

            tq.plane = plane
            tq.layer(body, q["groups"], q["outputs"], q["inputs"], q["taps"], ([1, 1] + entry["shape"][2:])[-2:])
            tq.plane = planes
            bases = (found["planes"] - found["bits"]) / 8
            yield entry["name"], found["last"], found["trellis"], len(body) - bases


def main():
    for path in sys.argv[1:]:
        ours = theirs = count = 0
        for name, q, trellis, size in layers(path):
            other = nncodec(q, trellis) if q.size else 0
            ours, theirs, count = ours + size, theirs + other, count + q.size
            print(f"  {name:40} {q.shape[0]:5} × {q.shape[1]:<6} ours {size:9.0f}  NNCodec {other:9}")
        ratio = f"{ours / theirs:.4f} of NNCodec's {theirs}" if theirs else "nothing to compare"
        print(f"{path}: {count} indices, ours {ours:.0f} bytes, {ratio}; {8 * ours / max(count, 1):.4f} and {8 * theirs / max(count, 1):.4f} bits an index")


if __name__ == "__main__":
    main()
