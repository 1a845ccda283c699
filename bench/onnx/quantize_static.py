"""onnxruntime's own static quantisation (all operators, QDQ, per channel), the peer of bench/integer-networks.ts.

    python quantize_static.py IN.onnx OUT.onnx

Needs onnx, onnxruntime and numpy. Calibrated on random images, as the bench's own files are: for speed.
"""
import sys

import numpy
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

source, target = sys.argv[1:]


class Images(CalibrationDataReader):
    def __init__(self, model):
        value = onnx.load(model).graph.input[0]
        dims = [d.dim_value or 16 for d in value.type.tensor_type.shape.dim]
        rng = numpy.random.default_rng(1)
        self.batches = iter([{value.name: rng.standard_normal(dims, numpy.float32)}])

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
