"""
Accuracy of onnxruntime's static quantisation (QDQ, int8 weights with a scale for each channel, uint8 activations) in its three
calibrations, on the images that bench/accuracy/ptq.ts uses: the first 512 training images without labels, all 10,000 test images.

    python bench/onnx/ptq_static.py resnet20|kaist [MinMax,Entropy,Percentile] [OUT.json]

In a venv with onnx and onnxruntime. Prints and writes a row for each: top-1 of a stock session, seconds of quantising, processor seconds.
"""
import json
import os
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

NETS = {
    "resnet20": (
        ".data/zoo/akamaster_resnet20_bn_op13.onnx",
        [".data/cifar-10/data_batch_1.bin"], ".data/cifar-10/test_batch.bin", 1,
        [0.485, 0.456, 0.406], [0.229, 0.224, 0.225],
    ),
    "kaist": (
        ".data/zoo/micronet_kaist_v2_pr15_op14.onnx",
        [".data/cifar-100/train.bin"], ".data/cifar-100/test.bin", 2,
        [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762],
    ),
}


def read(path, labels, mean, std, limit=None):
    rows = np.fromfile(path, np.uint8).reshape(-1, labels + 3072)[:limit]
    pixels = rows[:, labels:].reshape(-1, 3, 32, 32).astype(np.float32) / 255
    shape = (1, 3, 1, 1)
    normal = (pixels - np.float32(mean).reshape(shape)) / np.float32(std).reshape(shape)
    return normal.astype(np.float32), rows[:, labels - 1]


class Images(CalibrationDataReader):
    def __init__(self, name, images, batch):
        self.feeds = iter([{name: images[i : i + batch]} for i in range(0, len(images), batch)])

    def get_next(self):
        return next(self.feeds, None)


def top1(path, images, labels, batch):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for i in range(0, len(images), batch):
        scores = session.run(None, {name: images[i : i + batch]})[0]
        right += int((scores.reshape(len(scores), -1).argmax(1) == labels[i : i + batch]).sum())
    return right / len(images)


def main():
    net = sys.argv[1]
    methods = (sys.argv[2] if len(sys.argv) > 2 else "MinMax,Entropy,Percentile").split(",")
    out = sys.argv[3] if len(sys.argv) > 3 else "bench/results/ptq-rivals.json"
    file, train, test, labels, mean, std = NETS[net]
    calibration, _ = read(train[0], labels, mean, std, 512)
    images, wanted = read(test, labels, mean, std)
    name = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).get_inputs()[0]
    batch = 64 if isinstance(name.shape[0], str) else name.shape[0]
    rows = json.load(open(out)) if os.path.exists(out) else []
    with tempfile.TemporaryDirectory() as folder:
        ready = os.path.join(folder, "ready.onnx")
        quant_pre_process(file, ready, skip_symbolic_shape=True)
        for method in methods:
            path = os.path.join(folder, f"{method}.onnx")
            start, cpu = time.time(), time.process_time()
            quantize_static(
                ready, path, Images(name.name, calibration, batch),
                quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8, calibrate_method=getattr(CalibrationMethod, method),
            )
            row = {
                "tool": f"onnxruntime {ort.__version__} static, {method}", "net": net, "bits": "W8A8",
                "seconds": round(time.time() - start, 1), "processor": round(time.process_time() - cpu, 1),
                "top1": top1(path, images, wanted, batch),
            }
            print(row, flush=True)
            rows = [r for r in rows if (r["tool"], r["net"]) != (row["tool"], net)] + [row]
            with open(out, "w") as f:
                json.dump(rows, f, indent=2)
                f.write("\n")


main()
