"""Global magnitude pruning with Mul(W, mask), as one writes it with the onnx package and numpy: the peer of `mnc pass prune`."""
import sys
import time

import numpy as np
import onnx
from onnx import helper, numpy_helper

SPARSITY = 0.75

start = time.perf_counter()
model = onnx.load(sys.argv[1])
graph = model.graph
initializers = {t.name: t for t in graph.initializer}
convs = [(i, n) for i, n in enumerate(graph.node) if n.op_type == 'Conv']
weights = [numpy_helper.to_array(initializers[n.input[1]]) for _, n in convs]
magnitudes = np.concatenate([np.abs(w).ravel() for w in weights])
count = round(SPARSITY * magnitudes.size)
magnitudes.partition(count)
threshold = magnitudes[count]
for at, ((i, n), w) in enumerate(zip(convs, weights)):
    name = n.input[1]
    mask = (np.abs(w) >= threshold).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(mask, name + '.mask'))
    graph.node.insert(i + at, helper.make_node('Mul', [name, name + '.mask'], [name + '.masked']))
    n.input[1] = name + '.masked'
onnx.save(model, sys.argv[2])
print(time.perf_counter() - start)
