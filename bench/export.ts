/**
 * Size and speed of exported files against the dense float graph, in one run: `npx tsx bench/export.ts [--threads N]`.
 * ResNet-20 (from the zoo where it is, else fresh weights) and DenseNet-BC-40-12, pruned to 75 %, W4A4, calibrated on
 * random images: speed and size do not depend on what was learned. Each time is the median of runs taken in turns.
 */
import { existsSync } from 'node:fs'
import { explainKernels } from '../src/export/explain.ts'
import { exportModel } from '../src/export/export-model.ts'
import { cloneModel } from '../src/graph/clone.ts'
import { encodeModel, readModel } from '../src/graph/codec.ts'
import type { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { buildNetwork } from '../src/models/spec.ts'
import { runPass } from '../src/passes/manager.ts'
import { upgradeModelTo } from '../src/passes/upgrade-opset.ts'
import { Rng } from '../src/rng.ts'
import type { Session } from '../src/runtime/executor.ts'
import { ortExecutor } from '../src/runtime/ort.ts'

const ZOO_RESNET = '../shared/zoo/akamaster_resnet20_bn_op13.onnx'
const ROUNDS = 15
const at = process.argv.indexOf('--threads')
const threads = at > 0 ? Number(process.argv[at + 1]) : 1

function images(count: number): Tensor {
  const rng = new Rng(1)
  return Tensor.float32(
    [count, 3, 32, 32],
    Float32Array.from({ length: count * 3072 }, () => rng.normal()),
  )
}

async function compressed(dense: Model): Promise<Model> {
  const model = cloneModel(dense)
  const { name } = model.graph.inputs[0]!
  const calibration = {
    async *batches() {
      yield { [name]: images(16) }
    },
  }
  await runPass(model, 'insert-prune-mask', { sparsity: 0.75 })
  await runPass(model, 'insert-fake-quant', {}, { calibration })
  return model
}

interface Candidate {
  readonly label: string
  readonly session: Session
  readonly loadMs: number
  readonly bytes: number
}

async function candidate(label: string, model: Model, optimization: 'disabled' | 'all'): Promise<Candidate> {
  const bytes = encodeModel(model)
  const start = performance.now()
  const session = await ortExecutor().load(bytes, { optimization, threads })
  return { label, session, loadMs: performance.now() - start, bytes: bytes.length }
}

async function medians(candidates: readonly Candidate[], batch: number): Promise<number[]> {
  const x = images(batch)
  const times = candidates.map((): number[] => [])
  for (let round = -1; round < ROUNDS; round++)
    for (const [i, { session }] of candidates.entries()) {
      const start = performance.now()
      await session.run({ [session.inputNames[0]!]: x })
      if (round >= 0) times[i]!.push(performance.now() - start)
    }
  return times.map((t) => t.sort((a, b) => a - b)[Math.floor(t.length / 2)]!)
}

async function measure(title: string, dense: Model): Promise<void> {
  const quantised = await compressed(dense)
  const packed = await exportModel(quantised)
  const int8 = await exportModel(quantised, { format: 'int8' })
  const both = await exportModel(quantised, { format: 'int8', packedWeights: true })
  const int4 = await exportModel(quantised, { format: 'int4' })
  const { bytesPerWeight, weights } = packed.report
  console.log(
    `\n${title}: ${weights} weights, packed ${bytesPerWeight.toFixed(4)} bytes a weight, ${threads} thread(s)`,
  )
  const { layers } = await explainKernels(int8.model)
  console.log(`int8: ${layers.filter((l) => l.kernel).length} of ${layers.length} layers are integer kernels`)
  for (const optimization of ['all', 'disabled'] as const) {
    const candidates = [
      await candidate('dense float', dense, optimization),
      await candidate('packed', packed.model, optimization),
      await candidate('int4', int4.model, optimization),
      await candidate('int8', int8.model, optimization),
      await candidate('int8 packed', both.model, optimization),
    ]
    for (const batch of [32, 1]) {
      const ms = await medians(candidates, batch)
      for (const [i, c] of candidates.entries())
        console.log(
          [
            `${optimization.padEnd(8)} batch ${String(batch).padStart(2)} ${c.label.padEnd(12)}`,
            `${c.bytes.toString().padStart(8)} bytes, load ${c.loadMs.toFixed(0).padStart(4)} ms,`,
            `${((batch * 1000) / ms[i]!).toFixed(0).padStart(5)} img/s, ${(ms[0]! / ms[i]!).toFixed(2)}x float`,
          ].join(' '),
        )
    }
    for (const c of candidates) await c.session.dispose()
  }
}

const resnet = existsSync(ZOO_RESNET) ? await readModel(ZOO_RESNET) : buildNetwork({ family: 'resnet' }, { seed: 1 })
upgradeModelTo(resnet, 21)
await measure('ResNet-20', resnet)
await measure('DenseNet-BC-40-12', buildNetwork({ family: 'densenet-bc', depth: 40, growth: 12 }, { seed: 1 }))
