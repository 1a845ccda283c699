"""onnxruntime's own static quantisation (all operators, QDQ, per channel), the peer of bench/integer-networks.ts.

    python quantize_static.py IN.onnx OUT.onnx

Needs onnx, onnxruntime and numpy. Calibrated on random images, as the bench's own files are: for speed.
"""
import os
import sys

import numpy
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

source, target = sys.argv[1:]


class Images(CalibrationDataReader):
    def __init__(self, model):
        graph = onnx.load(model).graph
        stored = {t.name for t in graph.initializer}
        value = next(v for v in graph.input if v.name not in stored)
        shape = value.type.tensor_type
        dims = [d.dim_value or (16 if i == 0 else 32) for i, d in enumerate(shape.shape.dim)]
        kind = numpy.float16 if shape.elem_type == onnx.TensorProto.FLOAT16 else numpy.float32
        rng = numpy.random.default_rng(1)
        self.batches = iter([{value.name: rng.standard_normal(dims).astype(kind)}])

    def get_next(self):
        return next(self.batches, None)


prepared = target + ".prepared"
quant_pre_process(source, prepared, skip_symbolic_shape=True)
quantize_static(
    prepared,
    target,
    Images(prepared),
    quant_format=QuantFormat.QDQ,
    per_channel=True,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
)
os.remove(prepared)
