"""Folds BatchNormalization into the Conv before it, as one writes it with the onnx package: the peer of `mnc pass fold-bn`."""
import sys
import time

import numpy as np
import onnx
from onnx import numpy_helper

start = time.perf_counter()
model = onnx.load(sys.argv[1])
graph = model.graph
initializers = {t.name: t for t in graph.initializer}
makers = {out: n for n in graph.node for out in n.output}
value = lambda name: numpy_helper.to_array(initializers[name])
for bn in [n for n in graph.node if n.op_type == 'BatchNormalization']:
    conv = makers[bn.input[0]]
    gamma, beta, mean, var = (value(name) for name in bn.input[1:])
    eps = next((a.f for a in bn.attribute if a.name == 'epsilon'), 1e-5)
    k = gamma / np.sqrt(var + eps)
    w = value(conv.input[1]) * k.reshape(-1, 1, 1, 1)
    initializers[conv.input[1]].CopyFrom(numpy_helper.from_array(w.astype(np.float32), conv.input[1]))
    bias = numpy_helper.from_array((beta - mean * k).astype(np.float32), conv.input[1] + '.bias')
    graph.initializer.append(bias)
    conv.input.append(bias.name)
    conv.output[0] = bn.output[0]
    for name in bn.input[1:]:
        graph.initializer.remove(initializers[name])
    graph.node.remove(bn)
onnx.save(model, sys.argv[2])
print(time.perf_counter() - start)
