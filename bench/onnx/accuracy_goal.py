"""
Files of a goal by the rivals of `mnc compress`, on the same calibration images (the first 512 of the training set) and chosen by the
same images (the last 5,000 of it); top-1 on the full test set of stock onnxruntime, bytes of the file, seconds.

    python bench/onnx/accuracy_goal.py nncf|aimet|onnxruntime resnet20|resnet56|kaist MAX_DROP [OUT.json]

MAX_DROP is a share: 0.002 are 0.2 points. nncf: quantize_with_accuracy_control as documented. aimet: automatic mixed precision among
W4A8, W8A8 and W16A16 (sensitivity by 512 of the 5,000 images), after cross-layer equalisation, then AdaRound of 500 steps; it writes no small file, so that bytes
are its weights at their widths alone. onnxruntime: quantize_static, the calibration that is best by the 5,000 images. In a venv with onnx, onnxruntime and the tool.
"""
import json
import os
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort

CIFAR10 = [f".data/cifar-10/data_batch_{i}.bin" for i in range(1, 6)], ".data/cifar-10/test_batch.bin", 1
NETS = {
    "resnet20": (".data/zoo/akamaster_resnet20_bn_op13.onnx", *CIFAR10, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "resnet56": (".data/zoo/akamaster_resnet56_bn_op10.onnx", *CIFAR10, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "kaist": (
        ".data/zoo/micronet_kaist_v2_pr15_op14.onnx",
        [".data/cifar-100/train.bin"], ".data/cifar-100/test.bin", 2,
        [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762],
    ),
}
CALIBRATED = 512
HELD = 5000
# images that aimet measures each group of quantisers on, and steps of AdaRound for a layer
SENSITIVITY = 512
ADAROUND = 500


def read(paths, labels, mean, std):
    rows = np.concatenate([np.fromfile(p, np.uint8).reshape(-1, labels + 3072) for p in paths])
    return rows[:, labels - 1], rows[:, labels:].reshape(-1, 3, 32, 32), np.float32(mean), np.float32(std)


class Images:
    """A part of a split, normalised a batch at a time."""

    def __init__(self, split, start, end, batch):
        labels, pixels, self.mean, self.std = split
        self.labels, self.pixels, self.batch = labels[start:end], pixels[start:end], batch

    def first(self, count):
        split = self.labels, self.pixels, self.mean, self.std
        return Images(split, 0, count, self.batch)

    def __iter__(self):
        for i in range(0, len(self.labels), self.batch):
            x = self.pixels[i : i + self.batch].astype(np.float32) / np.float32(255)
            yield (x - self.mean.reshape(1, 3, 1, 1)) / self.std.reshape(1, 3, 1, 1), self.labels[i : i + self.batch]


def right(session, images):
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x})[0].reshape(len(y), -1).argmax(1) == y for x, y in images])


def stock(model):
    data = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"])


def by_nncf(file, name, calibration, held, drop, path):
    import nncf

    model = onnx.load(file)

    def validation(prepared, dataset):
        hits = []
        feed = getattr(prepared, "model", prepared)
        session = feed if hasattr(feed, "get_inputs") else (stock(feed) if isinstance(feed, onnx.ModelProto) else None)
        for x, y in dataset:
            scores = session.run(None, {name: x})[0] if session else next(iter(prepared({name: x}).values()))
            hits.append(scores.reshape(len(y), -1).argmax(1) == y)
        return float(np.concatenate(hits).mean()), None

    made = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(list(calibration), lambda item: {name: item[0]}),
        nncf.Dataset(list(held), lambda item: item),
        validation,
        max_drop=drop,
        subset_size=CALIBRATED // calibration.batch,
    )
    onnx.save(made, path)
    return f"nncf {nncf.__version__} quantize_with_accuracy_control", os.path.getsize(path), stock(path)


def by_onnxruntime(file, name, calibration, held, _drop, path):
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds = ({name: x} for x, _ in calibration)

        def get_next(self):
            return next(self.feeds, None)

    ready = f"{path}.ready.onnx"
    quant_pre_process(file, ready, skip_symbolic_shape=True)
    best = (-1.0, "")
    for method in ("MinMax", "Entropy", "Percentile"):
        to = f"{path}.{method}.onnx"
        quantize_static(
            ready, to, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8, calibrate_method=getattr(CalibrationMethod, method),
        )
        best = max(best, (float(right(stock(to), held).mean()), method))
    chosen = f"{path}.{best[1]}.onnx"
    return f"onnxruntime {ort.__version__} static, {best[1]}", os.path.getsize(chosen), stock(chosen)


def by_aimet(file, name, calibration, held, drop, path):
    import aimet_onnx
    from aimet_onnx import QuantizationSimModel, apply_adaround, int4, int8, int16
    from aimet_onnx.cross_layer_equalization import equalize_model
    from aimet_onnx.mixed_precision import analyze_mixed_precision_sensitivity, apply_amp

    from importlib.metadata import version

    model = onnx.load(file)
    equalize_model(model)
    sim = QuantizationSimModel(model, param_type=int8, activation_type=int8, providers=["CPUExecutionProvider"])
    batches = [{name: x} for x, _ in calibration]
    few = held.first(SENSITIVITY)
    least = right(stock(file), held).mean() - drop
    measured = analyze_mixed_precision_sensitivity(
        sim, [(int4, int8), (int8, int8), (int16, int16)], lambda session: float(right(session, few).mean()), batches
    )
    apply_amp(sim, measured, lambda session: bool(right(session, held).mean() >= least))
    apply_adaround(sim, batches, num_iterations=ADAROUND)
    stored = {t.name: int(np.prod(t.dims)) for t in sim.model.model.graph.initializer}
    bits = {n: sim.qc_quantize_op_dict[n].bitwidth for n in sim.param_names if sim.qc_quantize_op_dict[n].enabled}
    size = sum(stored[n] * bits.get(n, 32) for n in sim.param_names if n in stored) // 8
    return f"aimet-onnx {version('aimet-onnx')} mixed precision, AdaRound", size, sim.session


def main():
    tool, net, drop = sys.argv[1], sys.argv[2], float(sys.argv[3])
    out = sys.argv[4] if len(sys.argv) > 4 else "bench/results/compress-rivals.json"
    file, train, test, labels, mean, std = NETS[net]
    split = read(train, labels, mean, std)
    count = len(split[0])
    value = stock(file).get_inputs()[0]
    batch = 32 if isinstance(value.shape[0], str) else value.shape[0]
    calibration = Images(split, 0, CALIBRATED, batch)
    held = Images(split, count - HELD, count, batch)
    tests = read([test], labels, mean, std)
    images = Images(tests, 0, len(tests[0]), batch)
    rows = json.load(open(out)) if os.path.exists(out) else []
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.time(), time.process_time()
        by = {"nncf": by_nncf, "aimet": by_aimet, "onnxruntime": by_onnxruntime}[tool]
        said, size, session = by(file, value.name, calibration, held, drop, os.path.join(folder, "made.onnx"))
        row = {
            "tool": said, "net": net, "maxDrop": drop, "bytes": size,
            "seconds": round(time.time() - start, 1), "processor": round(time.process_time() - cpu, 1),
        }
        float_hits, hits = right(stock(file), images), right(session, images)
    row |= {"float": float(float_hits.mean()), "top1": float(hits.mean()), "held": float(right(session, held).mean())}
    row["heldFloat"] = float(right(stock(file), held).mean())
    print(row, flush=True)
    rows = [r for r in rows if (r["tool"], r["net"], r["maxDrop"]) != (said, net, drop)] + [row]
    with open(out, "w") as f:
        json.dump(rows, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
