/**
 * The rank of a value in a graph of opset 7, read from the nodes before it: onnxruntime has no kernels for what comes
 * before opset 7, so cannot infer it there. null where following first operands is not enough.
 */
import type { Node, Value } from '../../graph/graph.ts'
import { constantOf } from './constant-of.ts'

/** Ops whose output has the rank of the first operand, in the forms of opset 7 and before. */
const keeping = new Set(
  `Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Cos
  DepthToSpace Div Dropout Elu Equal Exp Floor GlobalAveragePool GlobalLpPool GlobalMaxPool Greater HardSigmoid Hardmax
  Identity InstanceNormalization LRN LeakyRelu Less Log LogSoftmax LpNormalization LpPool Max MaxPool Mean Min Mul Neg Not
  Or PRelu Pad Pow RandomNormalLike RandomUniformLike Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
  ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Selu Sigmoid Sin Slice Softmax Softplus Softsign
  SpaceToDepth Split Sqrt Sub Sum Tan Tanh Tile TopK Transpose Upsample Xor`.split(/\s+/),
)

const matrices = new Set(['Flatten', 'Gemm'])

export function rankOf(value: Value): number | null {
  let v = value
  let more = 0
  for (;;) {
    const own = constantOf(v)?.dims ?? v.type?.dims
    if (own) return own.length + more
    const n = v.producer
    if (n?.domain !== '') return null
    if (matrices.has(n.op)) return 2 + more
    if (n.op === 'Reshape') return addTo(constantOf(n.inputs[1])?.size, more)
    const step = change(n)
    if (step === null) return null
    more += step
    v = n.input(0)
  }
}

const addTo = (rank: number | undefined, more: number): number | null => (rank === undefined ? null : rank + more)

/** What the node adds to the rank of its first operand; null where that is unknown. */
function change(n: Node): number | null {
  const axes = n.ints('axes', []).length
  if (n.op === 'Unsqueeze') return axes
  if (n.op === 'Squeeze') return axes > 0 ? -axes : null
  // a product with a matrix, of anything but a vector
  if (n.op === 'MatMul') return constantOf(n.inputs[1])?.dims.length === 2 ? 0 : null
  if (!keeping.has(n.op)) return null
  if (n.int('keepdims', 1) === 1) return 0
  if (n.op.startsWith('Arg')) return -1
  return axes > 0 ? -axes : null
}
