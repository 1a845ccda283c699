"""NNCF's post-training quantisation, a peer of bench/integer-networks.ts.

    python quantize_nncf.py IN.onnx OUT.onnx

Needs nncf, onnx, onnxruntime and numpy. Calibrated on random images, as the bench's own files are: for speed.
"""
import sys

import nncf
import numpy
import onnx

source, target = sys.argv[1:]
model = onnx.load(source)
stored = {t.name for t in model.graph.initializer}
value = next(v for v in model.graph.input if v.name not in stored)
dims = [d.dim_value or (1 if i == 0 else 32) for i, d in enumerate(value.type.tensor_type.shape.dim)]
kind = numpy.float16 if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 else numpy.float32
rng = numpy.random.default_rng(1)
images = nncf.Dataset([{value.name: rng.standard_normal(dims).astype(kind)} for _ in range(16)])
onnx.save(nncf.quantize(model, images, subset_size=16), target)
