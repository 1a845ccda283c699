/**
 * Floats of a packed file besides its compressed weights (biases, scales, weights of layers that stay floats) as float16, which the
 * file casts back at load:
 *
 *   vectors   Split(Cast(one float16 tensor of all))
 *   others    Cast(float16)
 *
 * They lose 13 of 24 binary digits. That is allowed where the outputs of random inputs move by no more than 1 % of their
 * root mean square: by 8-bit quantisers behind, a file differs from itself at another optimisation level by as much.
 */
import { MncError } from '../base/errors.ts'
import { encodeModel } from '../codec/codec.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { HALF } from '../passes/half-nodes.ts'
import { loadIsolated } from '../runtime/isolated/engine.ts'
import { randomInputs } from '../samples/random-inputs.ts'
import type { Exporting } from './exporting.ts'
import { Terse } from './weights/decode.ts'

/** Bytes that a Cast takes; a part of the common tensor costs as much as a tensor of its own. */
const CAST = 30
const LEAST_VECTOR = 8
const SAMPLES = 16
const MOST = 0.01

export async function halveParameters(context: Exporting): Promise<void> {
  const { model, options, log } = context
  if (!options.halfParameters) return
  const halved = cloneModel(model)
  halve(halved.graph)
  if (encodeModel(halved).length >= encodeModel(model).length) return
  const moved = await distance(model, halved)
  if (moved > MOST) {
    const much = `${(100 * moved).toPrecision(2)} %`
    return log(`biases and scales stay in float32: as float16 they would move the outputs by ${much}`)
  }
  const narrow = halve(model.graph)
  context.choices = context.choices.map((c) => {
    const { weight } = c
    if (!narrow.has(weight.value)) return c
    const payload = 2 * weight.size
    context.weightBytes -= payload
    return { ...c, kind: 'float16', payload }
  })
}

/** The values that it stores narrower. */
function halve(graph: Graph): ReadonlySet<Value> {
  const t = new Terse(graph.prepend())
  const fitting = [...graph.initializers()].filter(fits)
  const vectors = fitting.filter((v) => v.constant!.dims.length === 1)
  const narrow = new Set<Value>()
  const replace = (v: Value, by: Value): void => {
    graph.replaceUses(v, by)
    graph.removeInitializer(v)
    narrow.add(v)
  }
  const widened = (tensor: Tensor): Value => t.op('Cast', [t.constant(tensor)], { to: elementTypes.float32.code })
  for (const v of fitting)
    if (!vectors.includes(v) && 2 * v.constant!.size > CAST) replace(v, widened(v.constant!.as('float16')))
  if (vectors.length < 2) return narrow
  const all = vectors.flatMap((v) => [...v.constant!.toFloat32()])
  const sizes = vectors.map((v) => v.constant!.size)
  const parts = t.ops('Split', [widened(Tensor.from('float16', [all.length], all)), t.ints(sizes)], sizes.length, {
    axis: 0,
  })
  for (const [i, v] of vectors.entries()) replace(v, parts[i]!)
  return narrow
}

/** Not what bodies read, nor short vectors, which may be sizes that readers want as constants. */
function fits(v: Value): boolean {
  const { constant, graph } = v
  if (constant?.type !== 'float32' || v.isOutput || constant.size < LEAST_VECTOR) return false
  if ([...v.uses].some((n) => n.graph !== graph)) return false
  const largest = constant.toFloat32().reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  return largest <= HALF.largest && (largest === 0 || largest >= HALF.leastNormal)
}

/** Root mean square of the difference over that of the outputs; infinite where the model is not run on made inputs. */
async function distance(model: Model, other: Model): Promise<number> {
  try {
    const { feeds, batch } = await randomInputs(model, SAMPLES)
    const names = model.graph.outputs.filter((v) => v.type?.elem.startsWith('float')).map((v) => v.name)
    const sessions = [
      await loadIsolated(model, { optimization: 'disabled' }),
      await loadIsolated(other, { optimization: 'disabled' }),
    ]
    try {
      let [difference, all] = [0, 0]
      for (let i = 0; i * batch < SAMPLES; i++) {
        const [a, b] = [await sessions[0]!.run(feeds(0, i), names), await sessions[1]!.run(feeds(0, i), names)]
        for (const name of names) {
          const got = b[name]!.toFloat32()
          for (const [k, x] of a[name]!.toFloat32().entries()) {
            difference += (x - got[k]!) ** 2
            all += x * x
          }
        }
      }
      return difference === 0 ? 0 : Math.sqrt(difference / all)
    } finally {
      for (const s of sessions) await s.dispose()
    }
  } catch (error) {
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    return Number.POSITIVE_INFINITY
  }
}
