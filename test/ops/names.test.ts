/**
 * Operators' names outside src/ops. The rest of the source asks for facts about operators (src/ops/facts.ts); names occur
 * only where a pattern is about just these operators. Every such place is listed here, with the reason. A new one is a
 * reason to think: which fact of the operator is really needed?
 *
 * Counted are lines that compare with a name, or list names: `.is('X')`, `op === 'X'`, `case 'X'`, `['X', 'Y']`. Building
 * a node of an operator is not a comparison, nor is the default of an option.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ops } from '../../src/ops/index.ts'
import { carriedOps } from '../../src/ops/support/carried.ts'

/** `file: operators`, the reason. */
const ALLOWED: Readonly<Record<string, string>> = {
  'layers/activation-bits.ts: Mul': 'the end of a decode, and the step behind an activation, as export writes them',
  'export/activations/activations.ts: Identity Sum':
    'what mnc and exporters put before quantisers that gives its input back',
  'export/integer-layout/index.ts: Pad': 'a form of Pad that the engine moves wrongly',
  'export/integer-layout/row-pairs.ts: Conv': 'the kernel that works on pairs of rows',
  'export/integer-layout/steps.ts: Add Conv Pad Slice':
    'the integer kernels of an int8 file, and shortcuts without weights',
  'export/weights/split-sums.ts: Conv': 'the kernel whose 8-bit sums are split',
  'graph/hints.ts: Concat MatMul Mul Pad ReduceSum Reshape Slice Transpose':
    'what the rule for weight gradients is written in',
  'quant/quant-guard.ts: Add BatchNormalization Div Dropout Flatten Identity MaxPool Mul Relu Reshape Slice Softmax Squeeze Sub Transpose Unsqueeze':
    "the engine's own lists of what its optimiser merges and moves quantisers across",
  'lowerings/blocked/conv.ts: Conv': 'a kernel of the blocked layout',
  'lowerings/blocked/elementwise.ts: Abs Add Ceil Clip Div Elu Erf Exp Floor HardSigmoid HardSwish LeakyRelu Log Max Min Mul Neg Reciprocal Relu Reshape Round Sigmoid Sign Softplus Sqrt Sub Sum Tanh ThresholdedRelu':
    'the kernels that take the blocked layout',
  'lowerings/blocked/weights.ts: Slice': 'how the gradient rule of a convolution turns its weight',
  'runtime/ort/ort-placement.ts: Resize Upsample': "the engine's kernels that decide by constants' values",
  'lowerings/rounded-half.ts: Cast': 'the Casts that mixed precision puts there',
  'train/step/batch-statistics.ts: Conv': 'the layers of the step that get a running mean subtracted',
  'train/step/mixed-precision.ts: HardSigmoid': 'the step function as the gradient of Relu is written',
}

const LIMIT = 26

const src = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'src')
const known = new Set([...ops.map((def) => def.op), ...carriedOps])

/** The operators that a line of code compares with or lists. */
function namesIn(line: string): string[] {
  const places = [
    ...line.matchAll(/\.is\(([^)]*)\)/g),
    ...line.matchAll(/(?:[!=]==|\bcase)\s*('\w+')/g),
    ...line.matchAll(/('\w+')\s*[!=]==/g),
    ...line.matchAll(/\[\s*((?:\.\.\.\w+,\s*)?(?:'\w+',?\s*)+)\]/g),
  ]
  return places
    .flatMap(([, list]) => [...list!.matchAll(/'(\w+)'/g)].map(([, name]) => name!))
    .filter((n) => known.has(n))
}

const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, '')).replace(/(^|\s)\/\/.*$/gm, '')

/** Lists that the formatter spread over lines are brought together. */
const joined = (text: string): string => text.replace(/\[\s*((?:'\w+',?\s*)+)\]/g, (all) => all.replace(/\s+/g, ' '))

function found(): Map<string, { names: string[]; lines: number }> {
  const all = new Map<string, { names: string[]; lines: number }>()
  for (const file of readdirSync(src, { recursive: true }).map(String).sort()) {
    if (!file.endsWith('.ts') || file.startsWith('ops/')) continue
    const lines = joined(withoutComments(readFileSync(join(src, file), 'utf8')))
      .split('\n')
      .filter((line) => !/^\s*default:/.test(line))
      .map(namesIn)
      .filter((names) => names.length > 0)
    if (lines.length > 0) all.set(file, { names: [...new Set(lines.flat())].sort(), lines: lines.length })
  }
  return all
}

test('outside src/ops operators are named only where the list says', () => {
  const places = found()
  const entries = [...places].map(([file, { names }]) => `${file}: ${names.join(' ')}`).sort()
  assert.deepEqual(entries, Object.keys(ALLOWED).sort(), 'ask for a fact of the operator (src/ops/facts.ts) instead')
  const lines = [...places.values()].reduce((n, p) => n + p.lines, 0)
  assert.ok(lines <= LIMIT, `${lines} lines compare with operators' names; at most ${LIMIT} may`)
})

test('the search finds every form of a comparison', () => {
  const forms = ["if (n.is('Conv', 'Gemm'))", "n?.op === 'Conv'", "'Conv' !== op", "case 'Conv':", "['Conv', 'Add']"]
  for (const form of forms) assert.ok(namesIn(form).includes('Conv'), form)
  for (const other of ["b.op('Conv', [x])", "kind === 'value'", "['float32', 'int8']"])
    assert.deepEqual(namesIn(other), [], other)
})
