"""
What foretells the drop on test images: accuracy lost on 3,000 of the last training images as they are, and mixed with one another,
for the files of a work folder of `mnc compress`.

    python bench/onnx/held_out.py resnet20|resnet56|kaist WORK [OUT.json]

In a venv with numpy and onnxruntime. `mixed-0.8` are 0.8 of an image, whose label counts, and 0.2 of another. In points.
"""
import glob
import json
import os
import sys

import numpy as np
from accuracy_goal import HELD, NETS, Images, read, stock

COUNT = 3000
OWN = (0.5, 0.6, 0.7, 0.8)


def answers(path, x):
    session = stock(path)
    value = session.get_inputs()[0]
    size = value.shape[0] if isinstance(value.shape[0], int) else 50
    parts = [session.run(None, {value.name: x[i : i + size]})[0] for i in range(0, len(x), size)]
    return np.concatenate([p.reshape(len(p), -1).argmax(1) for p in parts])


def main():
    net, work = sys.argv[1:3]
    out = sys.argv[3] if len(sys.argv) > 3 else "bench/results/held-out.json"
    file, train, test, labels, mean, std = NETS[net]
    split, tests = read(train, labels, mean, std), read([test], labels, mean, std)
    first = len(split[0]) - HELD
    x, y = next(iter(Images(split, first, first + COUNT, COUNT)))
    others = x[np.random.default_rng(0).permutation(COUNT)]
    sets = {"test": next(iter(Images(tests, 0, len(tests[0]), len(tests[0])))), "held out": (x, y)}
    for own in OWN:
        sets[f"mixed-{own}"] = ((own * x + (1 - own) * others).astype(np.float32), y)
    float_right = {name: answers(file, x) == y for name, (x, y) in sets.items()}
    rows = json.load(open(out)) if os.path.exists(out) else []
    for path in sorted(glob.glob(os.path.join(work, "points/*/exported.onnx"))):
        point = os.path.basename(os.path.dirname(path))
        drops = {n: round(100 * float(np.mean(float_right[n]) - np.mean(answers(path, x) == y)), 2) for n, (x, y) in sets.items()}
        row = {"net": net, "point": point, "float": {n: round(100 * float(r.mean()), 2) for n, r in float_right.items()}, "drop": drops}
        print(row, flush=True)
        rows = [r for r in rows if (r["net"], r["point"]) != (net, point)] + [row]
        with open(out, "w") as f:
            json.dump(rows, f, indent=2)
            f.write("\n")


main()
