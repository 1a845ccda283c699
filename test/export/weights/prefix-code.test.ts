/** Prefix codes: words, lengths against an exhaustive search, and what the graph makes of them in onnxruntime. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { storedWidths } from '../../../src/analysis/stored-width.ts'
import { Rng } from '../../../src/base/rng.ts'
import { encodeModel } from '../../../src/codec/codec.ts'
import { exportModel } from '../../../src/export/export-model.ts'
import type { ExportedTensor } from '../../../src/export/export-report.ts'
import { codeBits, countSymbols, type PrefixCode, prefixCode } from '../../../src/export/weights/prefix-code.ts'
import type { Value } from '../../../src/graph/graph.ts'
import type { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { Net } from '../nets.ts'

/** Fewest bits over all lengths of words that Kraft's inequality allows, by trying them. */
function fewest(counts: readonly number[], longest: number): number {
  const own = counts.filter((c) => c > 0).sort((a, b) => b - a)
  const tried = (i: number, from: number, room: number): number => {
    if (i === own.length) return 0
    let best = Number.POSITIVE_INFINITY
    // rarer symbols have no shorter words
    for (let l = from; l <= longest; l++) {
      const left = room - 2 ** -l
      if (left < (own.length - i - 1) * 2 ** -longest) continue
      best = Math.min(best, own[i]! * l + tried(i + 1, l, left))
    }
    return best
  }
  return tried(0, 1, 1)
}

test('the fewest bits of all codes whose words are no longer than allowed', () => {
  const rng = new Rng(1)
  for (let k = 0; k < 300; k++) {
    const size = 2 + rng.integer(6)
    const counts = Array.from({ length: size }, () => (rng.chance(0.1) ? 0 : 2 ** rng.integer(9) + rng.integer(5)))
    const present = counts.filter((c) => c > 0).length
    for (const longest of [1, 2, 3, 4, 6]) {
      const code = prefixCode(counts, longest)
      if (present === 0 || present > 2 ** longest) assert.equal(code, null)
      else assert.equal(code!.bits, fewest(counts, longest), `${counts} in ${longest}`)
    }
  }
})

/** The symbols, read level by level as a graph does. */
function decoded(bits: Uint8Array, n: number, levels: readonly number[], code: PrefixCode): number[] {
  const words = new Array<number>(n).fill(0)
  let at = 0
  for (let l = 0; l < code.shortest; l++) for (let i = 0; i < n; i++) words[i] = 2 * words[i]! + bits[at++]!
  for (const [k, size] of levels.entries()) {
    let next = at + 1
    const bound = code.open[code.shortest + k]!
    for (let i = 0; i < n; i++) if (words[i]! >= bound) words[i] = 2 * words[i]! + bits[next++]!
    assert.equal(next, at + size)
    at = next
  }
  assert.equal(at, bits.length)
  return words.map((w) => code.symbols[w]!)
}

test('words of different lengths are different numbers', () => {
  const rng = new Rng(2)
  for (let k = 0; k < 100; k++) {
    const size = 1 + rng.integer(40)
    const skew = 1 + 4 * rng.uniform()
    const symbols = Uint8Array.from({ length: 1 + rng.integer(500) }, () => Math.floor(size * rng.uniform() ** skew))
    const code = prefixCode(countSymbols(symbols, size), 6 + rng.integer(6))!
    const { bits, levels } = codeBits(symbols, code)
    assert.deepEqual(decoded(bits, symbols.length, levels, code), [...symbols])
  }
})

/** Layers whose weights lie as those of trained networks do: many small ones. */
class Trained extends Net {
  override floats(dims: readonly number[], at: (u: number) => number = (u) => u): Tensor {
    return super.floats(dims, (u) => at(Math.sign(u) * Math.abs(u) ** 3))
  }
}

function wide(bits: number, sparsity: number): Model {
  const n = new Trained(bits, { bits, sparsity, activationBits: 32 })
  const x = n.input([1, 32, 4, 4])
  const a = n.relu(n.conv(x, 'a', 32, 96, 3, { bias: true }))
  return n.finish(n.conv(a, 'b', 96, 32, 3))
}

async function run(model: Model, optimization: 'disabled' | 'all'): Promise<Float32Array> {
  const session = await ortExecutor().load(model, { optimization, threads: 1 })
  const rng = new Rng(5)
  const x = Tensor.float32(
    [1, 32, 4, 4],
    Float32Array.from({ length: 512 }, () => rng.normal()),
  )
  const [y] = Object.values(await session.run({ x }))
  await session.dispose()
  return y!.toFloat32()
}

const weightsOf = (m: Model): Value[] => [...m.graph.nodes()].filter((n) => n.op === 'Conv').map((n) => n.input(1))

for (const sparsity of [0, 0.6])
  test(`coded weights are those of the graph, ${sparsity === 0 ? 'dense' : 'pruned'}`, async () => {
    let narrower = 0
    for (const bits of [2, 3, 4, 5, 8]) {
      const model = wide(bits, sparsity)
      const want = await run(model, 'disabled')
      for (const options of [{ format: 'packed' }, { format: 'int8', packedWeights: true }] as const) {
        const { model: made, report } = await exportModel(model, options)
        const what = `${options.format}, ${bits} bits`
        assert.ok(
          [...made.graph.nodes()].some((n) => n.op === 'CumSum'),
          `${what}: nothing is coded`,
        )
        const widths = [...(await storedWidths(made, weightsOf(made))).values()]
        for (const w of widths) assert.ok(w <= bits, `${what}: ${w} bits a stored value`)
        narrower += widths.filter((w) => w < bits).length
        const { elements, nonZeros } = total(report.tensors)
        const plain = Math.min(bits, 1 + (bits * nonZeros) / elements)
        const stored = (8 * report.tensors.reduce((n, t) => n + t.bytes, 0)) / elements
        assert.ok(stored < plain, `${what}: ${stored} bits a weight, ${plain} without a code`)
        const again = (await exportModel(model, options)).model
        assert.deepEqual(Buffer.from(encodeModel(again)), Buffer.from(encodeModel(made)))
        assert.deepEqual(await run(made, 'disabled'), want, what)
        const fast = await run(made, 'all')
        const largest = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
        assert.ok(
          fast.every((v, i) => Math.abs(v - want[i]!) < 1e-5 * largest),
          what,
        )
      }
    }
    assert.ok(narrower >= 10, `${narrower} of 20`)
  })

function total(tensors: readonly ExportedTensor[]): { elements: number; nonZeros: number } {
  const sum = (of: (t: ExportedTensor) => number): number => tensors.reduce((n, t) => n + of(t), 0)
  return { elements: sum((t) => t.elements), nonZeros: sum((t) => t.nonZeros) }
}
