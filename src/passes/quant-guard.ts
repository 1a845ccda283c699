/**
 * Keeps stock onnxruntime from rewriting what stands before a narrow activation quantiser. Of Conv -> [Relu | Clip] ->
 * QuantizeLinear with a quantised input, onnxruntime 1.30 (all optimisations on) makes a QLinearConv: float weights
 * become 8 bits per tensor, biases integers of the step sx * sw (coarse at 4 bits: 0.3 points of ResNet-20), and with
 * 4-bit activations beside float or 8-bit weights the file does not load at all, for QLinearConv has no 4-bit types. A
 * float Clip right before a 4-bit QuantizeLinear does not load either (clip_quantizelinear.cc throws).
 *
 * A QuantizeLinear behind MaxPool, Reshape and the like is moved before them (qdq_propagation.cc), and 4-bit MaxPool,
 * Transpose and Slice do not exist: the file does not load.
 *
 * The guard is Sum of one value, an identity that no rewrite removes, marked mnc.role=quant-guard. It is put where a
 * layer lies before the quantiser with nothing between but what onnxruntime or fold-bn merges into it, and behind what
 * quantisers are moved across; for 8 bits only where the weights of that layer are floats. Lowering takes it out again;
 * export too, and sets its own (src/export/guard-quantisers.ts).
 */
import type { Node, Value } from '../graph/graph.ts'
import { constantOf } from './constant-of.ts'

export const QUANT_GUARD = 'quant-guard'

/** What onnxruntime moves quantisers across. */
const CROSSED = new Set(['MaxPool', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Slice', 'Flatten'])
const LAYERS = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul'])
/** What may vanish between a layer and its quantiser: into the layer, into the quantiser, or altogether. */
const MERGED = new Set(['Relu', 'Clip', 'BatchNormalization', 'Identity', 'Dropout'])
const MERGED_WITH_CONSTANT = new Set(['Add', 'Sub', 'Mul', 'Div'])

export interface Drawn {
  /** A layer, a Clip, or what quantisers are moved across. */
  readonly into: Node
  /** What lies between: from the value back. */
  readonly across: readonly Node[]
}

/** What onnxruntime would draw a quantiser of this value into; null where nothing. */
export function drawnInto(value: Value): Drawn | null {
  const across: Node[] = []
  for (let v = value; ; ) {
    const node = v.producer
    if (node?.domain !== '') return null
    if (LAYERS.has(node.op) || CROSSED.has(node.op) || node.op === 'Clip') return { into: node, across }
    const next = mergedInput(node)
    if (!next) return null
    across.push(node)
    v = next
  }
}

export const needsGuard = (value: Value): boolean => drawnInto(value) !== null

/** The layer before a quantiser of this value, behind whatever is merged or crossed; null where there is none. */
export function layerBefore(value: Value): Node | null {
  for (let v = value; ; ) {
    const drawn = drawnInto(v)
    if (!drawn || LAYERS.has(drawn.into.op)) return drawn?.into ?? null
    v = drawn.into.input(0)
  }
}

function mergedInput(node: Node): Value | null {
  const merged =
    MERGED.has(node.op) || (MERGED_WITH_CONSTANT.has(node.op) && node.inputs.some((x) => constantOf(x) !== null))
  return (merged && node.inputs.find((x) => x && !constantOf(x))) || null
}
