/**
 * Operators that mnc carries unharmed through every pass and knows nothing more about, and why nothing is differentiated
 * through them. A test compares this list and the definitions with the standard: each operator is in one of the two.
 */

const sequences = 'sequences and optional values are not differentiated'
const text = 'text has no gradient'
const integers =
  'it computes with integers: start from the float model, or rewrite its quantisers with lower-fake-quant'
const source = 'its output does not vary smoothly with its inputs'

const standard: Readonly<Record<string, string>> = {
  BlackmanWindow: source,
  HammingWindow: source,
  HannWindow: source,
  MelWeightMatrix: source,
  ImageDecoder: source,
  NonMaxSuppression: 'it returns indices',
  TfIdfVectorizer: 'it counts tokens',
  Unique: 'the shape of its output depends on the data',
  ConvInteger: integers,
  MatMulInteger: integers,
  QLinearConv: integers,
  QLinearMatMul: integers,
  DeformConv: 'its samples are taken by a kernel of onnxruntime that has no transpose',
  MaxRoiPool: 'regions are sampled by a kernel of onnxruntime that has no transpose',
  Det: 'it needs the inverse matrix, which no standard operator computes',
  ConcatFromSequence: sequences,
  Optional: sequences,
  OptionalGetElement: sequences,
  OptionalHasElement: sequences,
  SequenceAt: sequences,
  SequenceConstruct: sequences,
  SequenceEmpty: sequences,
  SequenceErase: sequences,
  SequenceInsert: sequences,
  SequenceLength: sequences,
  SequenceMap: sequences,
  SplitToSequence: sequences,
  RegexFullMatch: text,
  StringConcat: text,
  StringNormalizer: text,
  StringSplit: text,
}

const domains: Readonly<Record<string, string>> = {
  'ai.onnx.ml': 'classical models (trees, vectors, scalers) are not differentiated',
  'com.microsoft': "it is one of onnxruntime's fused operators: use the file from before optimisation",
}

/** Why there is no gradient; undefined for an operator that is not on the list. */
export const reasonFor = ({ op, domain }: { readonly op: string; readonly domain: string }): string | undefined =>
  domain === '' || domain === 'ai.onnx' ? standard[op] : domains[domain]

export const carriedOps: readonly string[] = Object.keys(standard)
