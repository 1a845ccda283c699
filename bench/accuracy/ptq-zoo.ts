/**
 * Post-training quantisation by `mnc ptq` of networks that are no image classifiers: detection (UltraFace, FastestDet),
 * super-resolution, voice activity (silero, with LSTM and If), a transformer (a small BERT with fused operators). Inputs are
 * random ones of the graph's own types, as for any model without data; the outputs of the quantised network are compared with the
 * float one's on inputs of another seed. Cosine of all float outputs together, and of the worst.
 *
 *   node --import tsx bench/accuracy/ptq-zoo.ts [--nets bert,silero] [--bits W8A8,W4A0g64] [--effort fast] [--limit 64]
 *
 * Writes bench/results/ptq-zoo.json after each row. A width of 0 leaves inputs float: W4A0 is weight-only,
 * with a scale for every 64 weights as W4A0g64.
 */
import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { writeFileAtomic } from '../../src/base/files.ts'
import { readModel } from '../../src/codec/codec.ts'
import { RANDOM } from '../../src/data/random-options.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { ptq } from '../../src/ptq/ptq.ts'
import type { Effort } from '../../src/ptq/ptq-options.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { randomInputs } from '../../src/samples/random-inputs.ts'

const { values: given } = parseArgs({
  options: {
    nets: { type: 'string', default: 'silero,bert,superresolution,ultraface,fastestdet' },
    bits: { type: 'string', default: 'W8A8' },
    effort: { type: 'string', default: 'fast' },
    limit: { type: 'string', default: '64' },
    out: { type: 'string', default: 'bench/results/ptq-zoo.json' },
  },
})

const nets: Readonly<Record<string, string>> = {
  bert: '.data/zoo/ort_bert_toy_optimized.onnx',
  fastestdet: '.data/zoo/FastestDet.onnx',
  silero: '.data/zoo/silero_vad_16k_op15.onnx',
  superresolution: '.data/zoo/pytorch_super_resolution.onnx',
  ultraface: '.data/zoo/ultraface_version-RFB-320.onnx',
}

/** Inputs that are compared on are drawn with this key; `mnc ptq` uses 0 and 1. */
const COMPARED = 7
const RUNS = 4
/** As the graph says, not by integer kernels. */
const config = { 'session.disable_quant_qdq': '1' }

interface Row {
  readonly net: string
  readonly bits: string
  readonly effort: string
  readonly limit: number
  readonly cosine: number
  readonly worst: number
  readonly kept: readonly string[]
  readonly seconds: number
}

async function cosines(float: Model, quantised: Model): Promise<{ cosine: number; worst: number }> {
  const { feeds } = await randomInputs(float, 4)
  const [a, b] = [
    await ortExecutor().load(cloneModel(float), { config }),
    await ortExecutor().load(cloneModel(quantised), { config }),
  ]
  const sums = new Map<string, [number, number, number]>()
  for (let run = 0; run < RUNS; run++) {
    const x = feeds(COMPARED, run)
    const [want, have] = [await a.run(x), await b.run(x)]
    for (const [name, t] of Object.entries(want)) {
      if (!t.type.includes('float')) continue
      const [u, v] = [t.toFloat32(), have[name]!.toFloat32()]
      const s = sums.get(name) ?? [0, 0, 0]
      sums.set(name, s)
      for (const [i, y] of u.entries()) {
        s[0] += y * v[i]!
        s[1] += y * y
        s[2] += v[i]! * v[i]!
      }
    }
  }
  await a.dispose()
  await b.dispose()
  const of = ([uv, uu, vv]: readonly [number, number, number]): number => uv / Math.sqrt(uu * vv)
  const all = [...sums.values()]
  const total = all.reduce<[number, number, number]>((t, s) => [t[0] + s[0], t[1] + s[1], t[2] + s[2]], [0, 0, 0])
  return { cosine: of(total), worst: Math.min(...all.map(of)) }
}

const rows: Row[] = existsSync(given.out) ? JSON.parse(readFileSync(given.out, 'utf8')) : []
for (const net of given.nets.split(','))
  for (const bits of given.bits.split(',')) {
    const [, weightBits, activationBits, group] = /^W(\d)A(\d)(?:g(\d+))?$/.exec(bits)!.map(Number)
    const limit = Number(given.limit)
    const isKnown = (r: Row): boolean => r.net === net && r.bits === bits && r.effort === given.effort
    if (rows.some(isKnown)) continue
    const model = await readModel(nets[net]!)
    const start = performance.now()
    const groups = group ? { weightGroup: group } : {}
    const options = { weightBits, activationBits, ...groups, effort: given.effort as Effort, limit, batch: 8 }
    const { model: quantised, steps } = await ptq(model, { data: RANDOM, options })
    const seconds = Math.round((performance.now() - start) / 1000)
    const kept = steps.flatMap((s) => (s.outcome === 'kept' ? [s.name] : []))
    const row = { net, bits, effort: given.effort, limit, ...(await cosines(model, quantised)), kept, seconds }
    rows.push(row)
    console.log(JSON.stringify(row))
    await writeFileAtomic(given.out, `${JSON.stringify(rows, null, 2)}\n`)
  }
