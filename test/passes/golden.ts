/**
 * Golden cases of passes: test/goldens/<pass>/<case>.txt.
 *
 *     # what the case shows
 *     options {"sparsity": 0.5}
 *     calibration {"batches": 2}        (optional: random batches for passes that take data)
 *     == in
 *     <text graph>
 *     == out                            (or `== error`: the message, for a pass that must refuse)
 *     <text graph>
 *     == declined
 *     <where>: <reason>
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { marks } from '../../src/graph/marks.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { readHistory } from '../../src/pass-manager/history.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'

export const GOLDENS = join(import.meta.dirname ?? '.', '..', 'goldens')

export interface GoldenCase {
  readonly pass: string
  readonly name: string
  readonly file: string
  readonly head: string
  readonly options: Readonly<Record<string, unknown>>
  readonly batches: number
  readonly input: string
  /** Everything from `== out` or `== error` on. */
  readonly expected: string
}

export function readCases(): GoldenCase[] {
  return readdirSync(GOLDENS, { withFileTypes: true })
    .filter((d) => d.isDirectory())
    .flatMap(({ name: pass }) =>
      readdirSync(join(GOLDENS, pass))
        .filter((f) => f.endsWith('.txt'))
        .sort()
        .map((f) => readCase(pass, f)),
    )
}

function readCase(pass: string, name: string): GoldenCase {
  const file = join(GOLDENS, pass, name)
  const text = readFileSync(file, 'utf8')
  const [head = '', rest = ''] = text.split(/^== in\n/m)
  const at = rest.search(/^== (out|error)\n/m)
  const input = at < 0 ? rest : rest.slice(0, at)
  const json = (key: string): Record<string, unknown> =>
    JSON.parse(new RegExp(`^${key} (.*)$`, 'm').exec(head)?.[1] ?? '{}')
  return {
    ...{ pass, name: name.replace(/\.txt$/, ''), file, head, options: json('options') },
    ...{ batches: Number(json('calibration').batches ?? 0), input, expected: at < 0 ? '' : rest.slice(at) },
  }
}

/** Random feeds in [-2, 2] of the model's inputs; symbolic dims become `open`. */
export function randomFeeds(model: Model, seed: number, open = 3): Record<string, Tensor> {
  const rng = new Rng(seed)
  const feeds: Record<string, Tensor> = {}
  for (const v of model.graph.fed) {
    if (!v.type) continue
    const dims = (v.type.dims ?? []).map((d) => (typeof d === 'number' ? d : open))
    const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => rng.uniform(-2, 2))
    feeds[v.name] = Tensor.from(v.type.elem, dims, values)
  }
  return feeds
}

export function randomBatches(model: Model, count: number): CalibrationData {
  return {
    async *batches() {
      for (let i = 0; i < count; i++) yield randomFeeds(model, 100 + i)
    },
  }
}

type Level = 'disabled' | 'all'

export async function runModel(
  model: Model,
  seed = 1,
  optimization: Level = 'disabled',
): Promise<Record<string, Tensor>> {
  const session = await ortExecutor().load(model, { optimization, threads: 1 })
  try {
    return await session.run(randomFeeds(model, seed))
  } finally {
    await session.dispose()
  }
}

/** max |a - b| / max |a| over all outputs of `a`; infinity where `b` lacks one or has another shape. */
export function relativeError(a: Record<string, Tensor>, b: Record<string, Tensor>): number {
  let worst = 0
  for (const [name, x] of Object.entries(a)) {
    const y = b[name]
    if (!y || y.dims.join() !== x.dims.join()) return Number.POSITIVE_INFINITY
    const [xs, ys] = [x.toFloat32(), y.toFloat32()]
    let scale = 1e-6
    for (const v of xs) scale = Math.max(scale, Math.abs(v))
    for (let i = 0; i < xs.length; i++) worst = Math.max(worst, Math.abs(xs[i]! - ys[i]!) / scale)
  }
  return worst
}

export interface GoldenResult {
  readonly text: string
  /** The model after the pass; null where it refused. */
  readonly model: Model | null
}

/** Runs the case once and gives the text of everything from `== out` on. */
export async function runCase({ pass, options, batches, input }: GoldenCase): Promise<GoldenResult> {
  const model = parseModel(input)
  const context = batches > 0 ? { calibration: randomBatches(model, batches) } : {}
  try {
    const { declined } = await runPass(model, findPass(pass), options, context)
    const reasons = declined.map((d) => `${d.where}: ${d.reason}\n`).join('')
    return { text: `== out\n${printed(model)}${reasons && `== declined\n${reasons}`}`, model }
  } catch (e) {
    if (!(e instanceof MncError) || e.blame === 'pass') throw e
    return { text: `== error\n${e.describe()}\n`, model: null }
  }
}

/**
 * The model as text, its history without the fingerprints of inputs: another input would change them in every case, and say
 * nothing. manager.test.ts tests them.
 */
function printed(model: Model): string {
  if (!marks.history.has(model)) return printModel(model)
  const shown = cloneModel(model)
  const entries = readHistory(model).map(({ input: _, ...entry }) => entry)
  marks.history.set(shown, entries)
  return printModel(shown)
}

export function writeCase({ file, head, input }: GoldenCase, text: string): void {
  writeFileSync(file, `${head}== in\n${input}${text}`)
}
