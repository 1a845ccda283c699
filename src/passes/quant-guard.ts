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
 * quantisers are moved across; elsewhere, and for
 * 8 bits beside quantised weights, none is needed. Lowering and export take it out again.
 */
import type { Value } from '../graph/graph.ts'
import { constantOf } from './constant-of.ts'

export const QUANT_GUARD = 'quant-guard'

/** What onnxruntime moves quantisers across. */
const CROSSED = new Set(['MaxPool', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Slice', 'Flatten'])
const LAYERS = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul'])
/** What may vanish between a layer and its quantiser: into the layer, into the quantiser, or altogether. */
const MERGED = new Set(['Relu', 'Clip', 'BatchNormalization', 'Identity', 'Dropout'])
const MERGED_WITH_CONSTANT = new Set(['Add', 'Sub', 'Mul', 'Div'])

/** Whether a quantiser of this value would be drawn into such a rewrite. */
export function needsGuard(value: Value): boolean {
  for (let v = value; ; ) {
    const node = v.producer
    if (node?.domain !== '') return false
    if (LAYERS.has(node.op) || CROSSED.has(node.op) || node.op === 'Clip') return true
    const merged =
      MERGED.has(node.op) || (MERGED_WITH_CONSTANT.has(node.op) && node.inputs.some((x) => constantOf(x) !== null))
    const next = merged ? node.inputs.find((x) => x && !constantOf(x)) : null
    if (!next) return false
    v = next
  }
}
