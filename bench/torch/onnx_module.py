"""An ONNX classifier as a PyTorch program: the independent oracle of bench/, never a part of mnc.

`Program` compiles the graph once into a list of closures over torch.nn.functional, so that a training step costs what
hand-written eager PyTorch costs: attributes are parsed, shape arithmetic is folded and every value is dropped after
its last reader before the first timed step. Batch size is fixed at compile time.

BatchNormalization follows `program.training`: batch statistics and PyTorch's running update (momentum 0.1 where ONNX
says 0.9, unbiased variance), or the running statistics. Dropout is the identity, as in the exported inference graph.
A final Softmax or LogSoftmax is left off: losses take logits.
"""
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

from fake_quant import FakeQuant, Quantised, factor

# Inputs that hold state or settings, never trained.
NOT_TRAINED = {
    'BatchNormalization': (3, 4), 'Clip': (1, 2), 'Pad': (1, 2, 3), 'Dropout': (1, 2), 'Slice': (1, 2, 3, 4),
    'Reshape': (1,), 'Resize': (1, 2, 3), 'ReduceMean': (1,), 'Squeeze': (1,), 'Unsqueeze': (1,), 'Expand': (1,),
    'Gather': (1,), 'QuantizeLinear': (2,), 'DequantizeLinear': (2,),
}
OPS = {}


class Node:
    """What an op builder sees: attributes, the constant inputs, and example tensors with the real shapes."""

    def __init__(self, proto, static, example, program):
        self.op = proto.op_type
        self.names = list(proto.input)
        self.attr = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        self.static = static
        self.x = example
        self.program = program

    def get(self, name, default):
        value = self.attr.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def ints(self, index, attribute, default=None):
        """A list that older opsets keep in an attribute and newer ones in an input."""
        if attribute in self.attr:
            return list(self.attr[attribute])
        if len(self.static) > index and self.static[index] is not None:
            return self.static[index].tolist()
        return default


def op(*names):
    def register(build):
        for name in names:
            OPS[name] = build
        return build
    return register


def window(n, kernel):
    """Strides, dilations and padding of a windowed op; padding as (symmetric, None) or (0, F.pad list)."""
    rank = len(kernel)
    strides = list(n.get('strides', [1] * rank))
    dilations = list(n.get('dilations', [1] * rank))
    auto = n.get('auto_pad', 'NOTSET')
    pads = list(n.get('pads', [0] * (2 * rank)))
    if auto in ('SAME_UPPER', 'SAME_LOWER'):
        pads = [0] * (2 * rank)
        for i in range(rank):
            size = n.x[0].shape[2 + i]
            span = (kernel[i] - 1) * dilations[i] + 1
            total = max((-(-size // strides[i]) - 1) * strides[i] + span - size, 0)
            small, large = total // 2, total - total // 2
            pads[i], pads[i + rank] = (small, large) if auto == 'SAME_UPPER' else (large, small)
    begin, end = pads[:rank], pads[rank:]
    if begin == end:
        return strides, dilations, begin, None
    explicit = [p for i in reversed(range(rank)) for p in (begin[i], end[i])]
    return strides, dilations, [0] * rank, explicit


@op('Conv')
def conv(n):
    kernel = list(n.x[1].shape[2:])
    strides, dilations, pad, explicit = window(n, kernel)
    groups = n.get('group', 1)
    if explicit:
        return lambda x, w, b=None: F.conv2d(F.pad(x, explicit), w, b, strides, 0, dilations, groups)
    return lambda x, w, b=None: F.conv2d(x, w, b, strides, pad, dilations, groups)


@op('BatchNormalization')
def batch_norm(n):
    program, momentum, eps = n.program, 1 - n.get('momentum', 0.9), n.get('epsilon', 1e-5)
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, program.training, momentum, eps)


@op('MaxPool')
def max_pool(n):
    kernel = list(n.get('kernel_shape', None))
    strides, dilations, pad, explicit = window(n, kernel)
    ceil = bool(n.get('ceil_mode', 0))
    if explicit:
        return lambda x: F.max_pool2d(F.pad(x, explicit, value=float('-inf')), kernel, strides, 0, dilations, ceil)
    return lambda x: F.max_pool2d(x, kernel, strides, pad, dilations, ceil)


@op('AveragePool')
def average_pool(n):
    kernel = list(n.get('kernel_shape', None))
    strides, _, pad, explicit = window(n, kernel)
    if explicit:
        raise SystemExit('AveragePool with uneven padding is not supported')
    ceil, include = bool(n.get('ceil_mode', 0)), bool(n.get('count_include_pad', 0))
    return lambda x: F.avg_pool2d(x, kernel, strides, pad, ceil, include)


@op('Gemm')
def gemm(n):
    alpha, beta = n.get('alpha', 1.0), n.get('beta', 1.0)
    trans_a, trans_b = n.get('transA', 0), n.get('transB', 0)
    if alpha == 1 and beta == 1 and not trans_a:
        if trans_b:
            return lambda a, b, c=None: F.linear(a, b, c)
        return lambda a, b, c=None: F.linear(a, b.t(), c)

    def general(a, b, c=None):
        y = alpha * ((a.t() if trans_a else a) @ (b.t() if trans_b else b))
        return y if c is None else y + beta * c
    return general


@op('Flatten')
def flatten(n):
    axis = n.get('axis', 1) % (n.x[0].dim() + 1)
    rows = int(np.prod(n.x[0].shape[:axis]))
    return lambda x: x.reshape(rows, -1)


@op('Reshape')
def reshape(n):
    given = n.ints(1, 'shape')
    shape = [n.x[0].shape[i] if d == 0 and not n.get('allowzero', 0) else d for i, d in enumerate(given)]
    return lambda x, *_: x.reshape(shape)


@op('Pad')
def pad(n):
    pads, rank = n.ints(1, 'pads'), n.x[0].dim()
    axes = n.static[3].tolist() if len(n.static) > 3 and n.static[3] is not None else list(range(rank))
    begin, end = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        begin[axis % rank], end[axis % rank] = pads[i], pads[i + len(axes)]
    flat = [p for i in reversed(range(rank)) for p in (begin[i], end[i])]
    mode = {'edge': 'replicate', 'reflect': 'reflect', 'constant': 'constant'}[n.get('mode', 'constant')]
    value = n.get('value', 0.0)
    if len(n.static) > 2 and n.static[2] is not None:
        value = n.static[2].item()
    return lambda x, *_: F.pad(x, flat, mode, value) if mode == 'constant' else F.pad(x, flat, mode)


@op('Slice')
def slice_(n):
    x = n.x[0]
    starts, ends = n.ints(1, 'starts'), n.ints(2, 'ends')
    axes = n.ints(3, 'axes', list(range(len(starts))))
    steps = n.ints(4, 'steps', [1] * len(starts))
    flips, index = [], [slice(None)] * x.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps):
        axis %= x.dim()
        picked = range(x.shape[axis])[slice(start, None if step < 0 and end < -x.shape[axis] else end, step)]
        if step < 0:  # torch has no negative steps: read upwards, then flip
            flips.append(axis)
            picked = picked[::-1]
        index[axis] = slice(picked.start, picked.stop, picked.step)
    index = tuple(index)
    return (lambda x, *_: x[index].flip(flips)) if flips else (lambda x, *_: x[index])


@op('ReduceMean')
def reduce_mean(n):
    axes, keep = n.ints(1, 'axes', list(range(n.x[0].dim()))), bool(n.get('keepdims', 1))
    return lambda x, *_: x.mean(axes, keep)


@op('Clip')
def clip(n):
    limits = [n.get('min', None), n.get('max', None)]
    for i in (1, 2):
        if len(n.static) > i and n.static[i] is not None:
            limits[i - 1] = n.static[i].item()
    low, high = limits
    return lambda x, *_: x.clamp(low, high)


@op('Unsqueeze')
def unsqueeze(n):
    axes = n.ints(1, 'axes')
    rank = n.x[0].dim() + len(axes)
    shape = list(n.x[0].shape)
    for axis in sorted(a % rank for a in axes):
        shape.insert(axis, 1)
    return lambda x, *_: x.reshape(shape)


@op('Squeeze')
def squeeze(n):
    dims = n.x[0].shape
    axes = n.ints(1, 'axes', [i for i, d in enumerate(dims) if d == 1])
    drop = {a % len(dims) for a in axes}
    shape = [d for i, d in enumerate(dims) if i not in drop]
    return lambda x, *_: x.reshape(shape)


@op('Split')
def split(n):
    axis, total = n.get('axis', 0), n.x[0].shape[n.get('axis', 0)]
    sizes = n.ints(1, 'split')
    if sizes is None:
        each = -(-total // n.program.output_count)
        sizes = [min(each, total - i * each) for i in range(n.program.output_count)]
    return lambda x, *_: x.split(sizes, axis)


@op('Concat')
def concat(n):
    axis = n.get('axis', 1)
    return lambda *xs: torch.cat(xs, axis)


@op('Transpose')
def transpose(n):
    perm = list(n.get('perm', list(reversed(range(n.x[0].dim())))))
    return lambda x: x.permute(perm)


@op('Cast')
def cast(n):
    kind = torch.from_numpy(np.zeros(1, onnx.mapping.TENSOR_TYPE_TO_NP_TYPE[n.get('to', 1)])).dtype
    return lambda x: x.to(kind)


@op('Constant')
def constant(n):
    value = n.attr.get('value')
    if value is not None:
        tensor = torch.from_numpy(numpy_helper.to_array(value).copy())
    elif 'value_ints' in n.attr or 'value_int' in n.attr:
        tensor = torch.tensor(n.attr.get('value_ints', n.attr.get('value_int')))
    else:
        tensor = torch.tensor(n.attr.get('value_floats', n.attr.get('value_float')))
    return lambda: tensor


@op('ConstantOfShape')
def constant_of_shape(n):
    value = numpy_helper.to_array(n.attr['value']) if 'value' in n.attr else np.zeros(1, np.float32)
    return lambda shape: torch.from_numpy(np.full(shape.tolist(), value[0]))


@op('Gather')
def gather(n):
    axis, index = n.get('axis', 0), n.static[1]
    if index.dim() == 0:
        i = index.item()
        return lambda x, *_: x.select(axis, i)
    return lambda x, *_: torch.index_select(x, axis, index.flatten()).reshape(
        *x.shape[:axis], *index.shape, *x.shape[axis + 1:])


@op('LeakyRelu')
def leaky_relu(n):
    slope = n.get('alpha', 0.01)
    return lambda x: F.leaky_relu(x, slope)


@op('HardSigmoid')
def hard_sigmoid(n):
    alpha, beta = n.get('alpha', 0.2), n.get('beta', 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


@op('Softmax', 'LogSoftmax')
def softmax(n):
    axis = n.get('axis', -1)
    function = F.softmax if n.op == 'Softmax' else F.log_softmax
    return lambda x: function(x, axis)


@op('LayerNormalization')
def layer_norm(n):
    axis, eps = n.get('axis', -1), n.get('epsilon', 1e-5)
    dims = list(n.x[0].shape[axis:])
    return lambda x, w, b=None: F.layer_norm(x, dims, w, b, eps)


@op('LSTM')
def lstm(n):
    """PyTorch's own layer, with the gates in its order: ONNX has input, output, forget, cell, PyTorch input, forget, cell, output."""
    width = n.get('hidden_size', None)

    def gates(w):
        i, o, f, c = w.split(width)
        return torch.cat([i, f, c, o])

    def run(x, w, r, b):
        zero = x.new_zeros(1, x.shape[1], width)
        wb, rb = b[0].split(4 * width)
        weights = [gates(w[0]), gates(r[0]), gates(wb), gates(rb)]
        y, *_ = torch.lstm(x, (zero, zero), weights, True, 1, 0.0, True, False, False)
        return y.unsqueeze(1)

    return run


LEVELS = {
    onnx.TensorProto.UINT4: (0, 15), onnx.TensorProto.INT4: (-8, 7),
    onnx.TensorProto.UINT8: (0, 255), onnx.TensorProto.INT8: (-128, 127),
}


@op('QuantizeLinear')
def quantize_linear(n):
    return lambda x, *_: Quantised(x)


@op('DequantizeLinear')
def dequantize_linear(n):
    x, scale, zero = n.x[0].x, n.x[1], n.x[2].to(n.x[1].dtype)
    low, high = LEVELS[n.program.kinds[n.names[2]]]
    # a weight is read with scales of its channels, an activation with one scale
    share = factor(x, scale, high, n.program.is_parameter(x))
    axis = n.get('axis', 1)
    return lambda q, s, *_: FakeQuant.apply(q.x, s, zero, low, high, axis, share)


for _name, _function in {
    'Sum': lambda *xs: xs[0] if len(xs) == 1 else sum(xs[1:], xs[0]),
    'Erf': torch.erf, 'Relu': torch.relu, 'Sigmoid': torch.sigmoid, 'Tanh': torch.tanh, 'HardSwish': F.hardswish, 'Add': torch.add,
    'Sub': torch.sub, 'Mul': torch.mul, 'MatMul': torch.matmul,
    'GlobalAveragePool': lambda x: x.mean((2, 3), True),
    'Div': lambda a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode='trunc'),
    'Identity': lambda x: x, 'Dropout': lambda x, *_: x,
    'Shape': lambda x: torch.tensor(x.shape),
}.items():
    OPS[_name] = lambda n, f=_function: f


class Program:
    """Compiled graph. `parameters` and `buffers` map initializer names to tensors, in the file's order."""

    def __init__(self, path, example, layout='nchw', dtype=torch.float32):
        graph = onnx.load(path).graph
        self.training = False
        self.parameters, self.buffers = {}, {}
        trained = set()
        settings = set()
        for node in graph.node:
            for i, name in enumerate(node.input):
                (settings if i in NOT_TRAINED.get(node.op_type, ()) else trained).add(name)
        static = {}
        scales = {n.input[1] for n in graph.node if n.op_type in ('QuantizeLinear', 'DequantizeLinear')}
        self.kinds = {proto.name: proto.data_type for proto in graph.initializer}
        for proto in graph.initializer:
            array = numpy_helper.to_array(proto)
            if proto.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
                array = array.astype(np.int32)
            tensor = torch.from_numpy(array.copy())
            if tensor.is_floating_point():
                tensor = tensor.to(example.device, dtype)
            if layout == 'channels_last' and tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            if proto.name in scales:
                self.parameters[proto.name] = tensor
            elif not tensor.is_floating_point() or tensor.numel() == 1:
                static[proto.name] = tensor
            elif proto.name in trained and proto.name not in settings:
                self.parameters[proto.name] = tensor
            else:
                self.buffers[proto.name] = tensor
        names = {p.name for p in graph.initializer}
        inputs = [i.name for i in graph.input if i.name not in names]
        if len(inputs) != 1:
            raise SystemExit(f'{path}: expected one input, found {inputs}')
        output = graph.output[0].name
        producer = {o: n for n in graph.node for o in n.output}
        if producer[output].op_type in ('Softmax', 'LogSoftmax'):
            output = producer[output].input[0]
        self._compile(graph, static, inputs[0], output, example)
        for tensor in self.parameters.values():
            tensor.requires_grad_(True)

    def is_parameter(self, tensor):
        return any(tensor is p for p in self.parameters.values())

    def _compile(self, graph, static, input_name, output, example):
        """One evaluation with real shapes: folds what is constant, records closures for the rest."""
        values = {**static, **self.parameters, **self.buffers, input_name: example}
        slots, plan = {}, []
        slot = lambda name: slots.setdefault(name, len(slots))
        last_reader = {name: i for i, node in enumerate(graph.node) for name in node.input}
        with torch.no_grad():
            for at, proto in enumerate(graph.node):
                if proto.op_type not in OPS:
                    raise SystemExit(f'reference.py does not know the operator {proto.op_type} ({proto.name})')
                names = list(proto.input)
                while names and names[-1] == '':
                    names.pop()
                self.output_count = len(proto.output)
                node = Node(proto, [static.get(n) for n in names], [values.get(n) for n in names], self)
                function = OPS[proto.op_type](node)
                result = function(*[values.get(n) for n in names])
                results = result if isinstance(result, (tuple, list)) else (result,)
                values.update(zip(proto.output, results))
                if proto.op_type == 'Shape' or all(n in static for n in names):
                    static.update(zip(proto.output, results))
                else:
                    outs = [slot(o) for o, _ in zip(proto.output, results)]
                    plan.append((function, [slot(n) for n in names], outs, len(results) > 1))
                for name in set(names):  # else the trace, not the training, would set the peak of memory
                    if last_reader[name] == at:
                        values.pop(name, None)
        self._input, self._output = slot(input_name), slot(output)
        self._initial = [static.get(n, self.parameters.get(n, self.buffers.get(n))) for n in slots]
        last = {}
        for at, (_, ins, _, _) in enumerate(plan):
            for i in ins:
                last[i] = at
        last.pop(self._output, None)
        self._plan = [
            (function, ins, outs, many, [i for i in set(ins) if last.get(i) == at])
            for at, (function, ins, outs, many) in enumerate(plan)
        ]

    def __call__(self, x):
        values = list(self._initial)
        values[self._input] = x
        for function, ins, outs, many, dead in self._plan:
            y = function(*[values[i] for i in ins])
            if many:
                for slot, part in zip(outs, y):
                    values[slot] = part
            else:
                values[outs[0]] = y
            for slot in dead:
                values[slot] = None
        return values[self._output]
