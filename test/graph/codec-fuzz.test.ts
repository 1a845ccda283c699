/** Damaged files: each is read as some model or refused with one model error; nothing crashes or hangs. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { float, floats } from '../../src/graph/attribute.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { nodeTests } from './files.ts'

/** mulberry32: the same mutations on every run. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

function sample(): Model {
  const graph = new Graph('main')
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 3, 8, 8] })
  const b = graph.append()
  const w = graph.addInitializer('w', Tensor.float32([4, 3, 3, 3], new Float32Array(108).fill(0.5)))
  const y = b.op('Conv', [x, w], { strides: [1, 1], pads: [1, 1, 1, 1] })
  const z = b.op('Clip', [b.op('LeakyRelu', [y], { alpha: float(0.5), others: floats([1, 2]) }), b.scalar(0)])
  const body = new Graph('body', graph)
  body.addOutput(body.append().op('Mul', [z, body.addInitializer('two', Tensor.scalar(2))]))
  const branch = b.op('If', [graph.addInitializer('c', Tensor.scalar(1, 'bool'))])
  for (const key of ['then_branch', 'else_branch']) branch.producer!.setAttribute(key, { kind: 'graph', value: body })
  branch.producer!.setAttribute('else_branch', null)
  graph.addOutput(branch)
  const model = new Model(graph)
  model.metadata.set('mnc.preprocess', '{"scale":255}')
  return model
}

type Bytes = Uint8Array<ArrayBuffer>
const copy = (b: Uint8Array): Bytes => new Uint8Array(b)

function mutate(bytes: Uint8Array, other: Uint8Array, next: () => number): Bytes {
  const at = (n: number) => Math.floor(next() * n)
  const kind = at(5)
  if (kind === 0) return copy(bytes.subarray(0, at(bytes.length)))
  const out = copy(bytes)
  if (kind === 1) for (let n = 1 + at(4); n > 0; n--) out[at(out.length)]! ^= 1 << at(8)
  else if (kind === 2) for (let n = 1 + at(3); n > 0; n--) out[at(out.length)] = [0, 1, 127, 128, 255][at(5)]!
  else {
    const length = 1 + at(40)
    const from = at(other.length)
    const piece = other.subarray(from, from + length)
    const cut = at(out.length)
    // Put a piece of another file in, or over what was there.
    return copy(Buffer.concat([out.subarray(0, cut), piece, out.subarray(cut + (kind === 3 ? 0 : piece.length))]))
  }
  return out
}

/** Milliseconds; the samples take under one when whole. */
const TOO_LONG = 5000

function survives(run: () => Model, what: string): boolean {
  const start = performance.now()
  let fine = false
  try {
    const model = run()
    verifyModel(model)
    encodeModel(model)
    printModel(model, { tensors: 'summary' })
    fine = true
  } catch (error) {
    assert.ok(error instanceof MncError && error.blame === 'model', `${what}: ${String((error as Error).stack)}`)
  }
  assert.ok(performance.now() - start < TOO_LONG, `${what} took too long`)
  return fine
}

const corpus = (): Uint8Array[] => [
  encodeModel(sample()),
  ...nodeTests()
    .filter((f) =>
      /test_(if|loop11|if_seq|loop16_seq_none|constant|dequantizelinear_int4|ai_onnx_ml_label_encoder_tensor_mapping|scan_sum|abs|strnorm_model_nostopwords_nochangecase)\//.test(
        f,
      ),
    )
    .map((f) => readFileSync(f)),
]

test('two thousand damaged files', (t) => {
  const files = corpus()
  const next = random(1)
  let read = 0
  for (let i = 0; i < 2000; i++) {
    const bytes = mutate(files[i % files.length]!, files[(i * 7 + 3) % files.length]!, next)
    if (survives(() => decodeModel(bytes), `mutation ${i}`)) read++
  }
  t.diagnostic(`${files.length} files; ${read} of 2000 mutants were still models`)
  assert.ok(read > 100 && read < 1900)
})

test('five hundred damaged texts', (t) => {
  const texts = corpus().map((b) => new TextEncoder().encode(printModel(decodeModel(b))))
  const next = random(2)
  let read = 0
  for (let i = 0; i < 500; i++) {
    const bytes = mutate(texts[i % texts.length]!, texts[(i * 7 + 3) % texts.length]!, next)
    if (survives(() => parseModel(new TextDecoder().decode(bytes)), `text mutation ${i}`)) read++
  }
  t.diagnostic(`${read} of 500 mutants were still models`)
  assert.ok(read < 450)
})
