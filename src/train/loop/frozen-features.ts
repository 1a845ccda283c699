/**
 * Training after a frozen front, without computing the front again and again: if images are not augmented, the frozen
 * part's output for an image is the same in every epoch, and so are the teacher's scores. Both are computed once, kept in
 * memory, and the step graph starts after them: its input is one row of numbers per image.
 *
 * Frozen here means that nothing trained comes before: no trained weight, moving mask, fitted scale or batch statistic.
 * Does not apply with augmentation, random inputs, several inputs, a model that runs at one batch only, a teacher in
 * batch statistics or of another image size, where the features are larger than CACHE_BYTES, or where the image itself is
 * read after the front.
 */
import { Dataset, sharedBytes } from '../../data/dataset.ts'
import { batchDims, evalBatches } from '../../data/eval-batches.ts'
import { createLoader } from '../../data/loader.ts'
import type { Preprocess } from '../../data/preprocess.ts'
import { cloneModel } from '../../graph/clone.ts'
import { Graph, type Node, type Value } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { weightLayers } from '../../layers/layers.ts'
import { trainableParameters } from '../../layers/parameters.ts'
import { toWorkingOpset, WORKING_OPSET } from '../../ops/raise-opset.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { widenFloats } from '../../passes/widen-floats.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'
import { normNodes } from '../step/batch-statistics.ts'
import { learnableScales } from '../step/learned-scales.ts'
import { needsOf } from '../step/objectives.ts'
import { logitsOf } from '../step/outputs.ts'
import { prepareTeacher } from '../step/teacher.ts'
import type { TrainOptions } from '../train-options.ts'
import type { BatchSource } from './batch-source.ts'
import type { TrainRun } from './train-run.ts'

/** Features of all images may take this much memory. */
const CACHE_BYTES = 2 ** 30
const BATCH = 100
const INPUT = 'frozen_features'

export interface FrozenCut {
  /** What is trained: the model after its frozen front. Initializers have the model's names. */
  readonly model: Model
  readonly teacher: TrainRun['teacher']
  readonly source: BatchSource
}

/** Images that are trained on, in the order of their file, and how they are fed. */
export interface CutData {
  readonly images: Dataset
  readonly preprocess: Preprocess
  readonly source: BatchSource
  readonly seed: number
}

/** null where there is nothing frozen to save, or one of the conditions above does not hold. */
export async function cutFrozen(
  whole: Model,
  run: TrainRun,
  o: TrainOptions,
  { images, preprocess, source, seed }: CutData,
  isHost: (name: string) => boolean,
): Promise<FrozenCut | null> {
  if (!o.cacheFeatures || o.augment !== 'none' || source.parts !== o.accumulate) return null
  const { teacher } = run
  const taught = teacher && needsOf(o, true).teacher
  const sameSize = (teacher?.preprocess ?? preprocess).size.join() === preprocess.size.join()
  if (taught && (o.teacherBn === 'batch' || !sameSize || teacher.model.graph.outputs.length > 1)) return null
  const model = cloneModel(whole)
  widenFloats(model)
  toWorkingOpset(model)
  const border = borderOf(model, o, isHost)
  if (!border) return null
  const own = await featuresOf(model, border, images, preprocess)
  if (!own) return null
  const targets = taught ? await scoresOf(teacher.model, images, teacher.preprocess ?? preprocess) : null
  // rows of scores; for other outputs nothing would tell any more which axis the classes are on
  if (taught && targets?.[0]?.dims.length !== 1) return null
  const blocks = [...own, ...(targets ?? [])]
  const width = blocks.reduce((n, b) => n + b.width, 0)
  startBehind(model, border, own, width)
  const rows = (index: Int32Array): Tensor => {
    const out = new Float32Array(index.length * width)
    for (let i = 0; i < index.length; i++) {
      let at = i * width
      for (const { values, width: w } of blocks) {
        out.set(values.subarray(index[i]! * w, (index[i]! + 1) * w), at)
        at += w
      }
    }
    return Tensor.float32([index.length, width], out)
  }
  return {
    model,
    teacher: targets ? { model: repeater(width, targets[0]!.width) } : teacher,
    source: cachedSource(source, images, { batch: source.batch, parts: source.parts, seed, rows }),
  }
}

/** Values that the frozen front hands on; null where it hands on the image, or holds no layer. */
function borderOf(model: Model, o: TrainOptions, isHost: (name: string) => boolean): Value[] | null {
  const { graph } = model
  const inputs = graph.fed
  const [input] = inputs
  if (!input || inputs.length > 1 || typeof input.type?.dims?.[0] === 'number') return null
  const moving = new Set<Value>(trainableParameters(graph))
  if (o.scales === 'learn') for (const { scale } of learnableScales(graph)) moving.add(scale)
  for (const v of graph.initializers()) if (isHost(v.name)) moving.add(v)
  const norms = new Set<Node>(o.bn === 'batch' ? normNodes(graph) : [])
  const fed = new Set<Value>([input])
  const trained = new Set<Node>()
  for (const n of graph.nodes()) {
    const moves = norms.has(n) || n.subgraphs.length > 0 || n.inputs.some((v) => v && moving.has(v))
    if (moves) trained.add(n)
    for (const v of n.outputs) {
      if (v && moves) moving.add(v)
      if (v && n.inputs.some((x) => x && fed.has(x))) fed.add(v)
    }
  }
  const border = [...fed].filter((v) => !moving.has(v) && (v.isOutput || [...v.uses].some((n) => trained.has(n))))
  const layers = weightLayers(graph).filter((l) => !trained.has(l.node) && fed.has(l.node.output))
  const usable = border.every((v) => v !== input && !v.isOutput && v.type?.elem !== 'int64')
  return usable && border.length > 0 && layers.length > 0 ? border : null
}

interface Block {
  /** One row per image. */
  readonly values: Float32Array
  readonly width: number
  /** Of one image. */
  readonly dims: readonly number[]
}

/** Runs `model` up to `values` on all images; null if they are not float32 rows, or too large. */
async function featuresOf(
  model: Model,
  values: readonly Value[],
  images: Dataset,
  preprocess: Preprocess,
): Promise<Block[] | null> {
  const front = cloneModel(model)
  const { graph } = front
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  for (const v of values) graph.addOutput(graph.find(v.name)!)
  removeDead(graph)
  const input = graph.fed[0]!.name
  const session = await ortExecutor().load(front, { config: { 'session.disable_quant_qdq': '1' } })
  const blocks: Block[] = []
  let row = 0
  let bytes = 0
  try {
    for await (const batch of evalBatches(images, preprocess, BATCH)) {
      const out = await session.run({ [input]: Tensor.float32(batchDims(preprocess, batch.count), batch.images) })
      for (const [i, { name }] of values.entries()) {
        const t = out[name]!
        if (t.type !== 'float32' || t.dims[0] !== batch.count) return null
        const width = t.size / batch.count
        if (row === 0) bytes += 4 * width * images.size
        if (bytes > CACHE_BYTES) return null
        blocks[i] ??= { width, dims: t.dims.slice(1), values: new Float32Array(width * images.size) }
        blocks[i].values.set(t.view('float32'), row * width)
      }
      row += batch.count
    }
  } finally {
    await session.dispose()
  }
  return blocks
}

/** The teacher's scores before any softmax. */
async function scoresOf(teacher: Model, images: Dataset, preprocess: Preprocess): Promise<Block[] | null> {
  const prepared = await prepareTeacher(teacher, false)
  return featuresOf(prepared, [logitsOf(prepared.graph.outputs[0]!)], images, preprocess)
}

/** The model reads its border from rows of `width` numbers in place of images. */
function startBehind(model: Model, border: readonly Value[], blocks: readonly Block[], width: number): void {
  const { graph } = model
  const images = graph.fed
  const rows = graph.addInput(INPUT, { elem: 'float32', dims: ['N', width] })
  const b = graph.prepend()
  let at = 0
  for (const [i, v] of border.entries()) {
    const { width: w, dims } = blocks[i]!
    const part = w === width ? rows : b.op('Slice', [rows, b.ints([at]), b.ints([at + w]), b.ints([1])])
    const value = dims.length === 1 ? part : b.op('Reshape', [part, b.ints([-1, ...dims])])
    graph.replaceUses(v, value)
    at += w
  }
  removeDead(graph)
  for (const v of images) if (!v.isUsed) graph.removeInput(v)
}

/** A teacher that hands out the last `width` of each row. */
function repeater(total: number, width: number): Model {
  const model = new Model(new Graph('repeater'), WORKING_OPSET)
  const rows = model.graph.addInput(INPUT, { elem: 'float32', dims: ['N', total] })
  const b = model.graph.append()
  const type = { elem: 'float32', dims: ['N', width] } as const
  model.graph.addOutput(b.op('Slice', [rows, b.ints([total - width]), b.ints([total]), b.ints([1])], {}, { type }))
  return model
}

interface CachedOptions {
  readonly batch: number
  readonly parts: number
  readonly seed: number
  readonly rows: (index: Int32Array) => Tensor
}

/** The batches of `source`, in its order, as rows of features: the loader shuffles the indices of images. */
function cachedSource(source: BatchSource, images: Dataset, { batch, parts, seed, rows }: CachedOptions): BatchSource {
  const { size, labels, name, split } = images
  const shape = { channels: 1, height: 1, width: 1, images: sharedBytes(size) }
  const numbers = new Dataset({ name, split, classes: size, ...shape, labels: Int32Array.from(labels, (_, i) => i) })
  const preprocess = { scale: 255, mean: [0], std: [1], size: [1, 1], layout: 'NCHW' } as const
  const loader = createLoader(numbers, { batchSize: batch * parts, preprocess, seed, workers: 0 })
  return {
    ...source,
    async *batches(from, to, share) {
      const part = share && { ...share, part: batch }
      for await (const { step, epoch, labels: index, count } of loader.batches(from, to, part)) {
        const split = Array.from({ length: count / batch }, (_, k) => {
          const own = index.subarray(k * batch, (k + 1) * batch)
          return { images: rows(own), labels: images.isLabelled ? own.map((i) => labels[i]!) : null }
        })
        yield { step, epoch, parts: split, count }
      }
    },
  }
}
