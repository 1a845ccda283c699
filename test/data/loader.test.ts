import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  createLoader,
  Dataset,
  evalBatches,
  type LoaderOptions,
  type Preprocess,
  sharedBytes,
} from '../../src/data/index.ts'

const preprocess: Preprocess = { scale: 255, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4], size: [8, 8], layout: 'NCHW' }
/** Image i is all i, so a batch shows what it holds. */
function numbered(size: number): Dataset {
  const images = sharedBytes(size * 192)
  for (let i = 0; i < size; i++) images.fill(i, i * 192, (i + 1) * 192)
  const labels = Int32Array.from({ length: size }, (_, i) => i % 10)
  return new Dataset({
    name: 'numbered',
    split: 'train',
    classes: 10,
    channels: 3,
    height: 8,
    width: 8,
    images,
    labels,
  })
}
const set = numbered(50)
const make = (o: Partial<LoaderOptions>) => createLoader(set, { batchSize: 8, preprocess, seed: 3, workers: 0, ...o })
const which = (image: number) => Math.round((image * 0.2 + 0.5) * 255)

async function digests(o: Partial<LoaderOptions>, from = 0, to = 15): Promise<string[]> {
  const out: string[] = []
  for await (const { step, epoch, images, labels } of make(o).batches(from, to))
    out.push(createHash('sha256').update(`${step} ${epoch}`).update(images).update(labels).digest('hex').slice(0, 12))
  return out
}

test('batches depend on seed and step alone: not on threads, nor on where the run starts', async () => {
  const straight = await digests({ augment: 'micronet' })
  assert.equal(new Set(straight).size, 15)
  assert.deepEqual(await digests({ augment: 'micronet', workers: 1 }), straight)
  assert.deepEqual(await digests({ augment: 'micronet', workers: 2 }, 9), straight.slice(9))
  assert.notDeepEqual(await digests({ augment: 'micronet', seed: 4 }), straight)
})

test('an epoch shows each image once, in another order each time; the short batch is dropped or kept', async () => {
  const epochs: number[][] = [[], []]
  const loader = make({ dropLast: false })
  assert.equal(loader.stepsPerEpoch, 7)
  for await (const { epoch, images, labels, count } of loader.batches(0, 14)) {
    assert.equal(images.length, count * 192)
    for (let i = 0; i < count; i++) {
      const n = which(images[i * 192]!)
      assert.equal(labels[i], n % 10)
      epochs[epoch]!.push(n)
    }
  }
  const [a = [], b = []] = epochs
  assert.notDeepEqual(a, b)
  const all = Array.from({ length: 50 }, (_, i) => i)
  for (const e of [a, b])
    assert.deepEqual(
      [...e].sort((x, y) => x - y),
      all,
    )
  assert.notDeepEqual(a, all)
  assert.equal(make({}).stepsPerEpoch, 6)
})

test('leaving the loop early stops the threads, and the loader can be used again', async () => {
  const loader = make({ workers: 1 })
  for (let round = 0; round < 2; round++) {
    let seen = 0
    for await (const batch of loader.batches()) {
      assert.equal(batch.step, seen++)
      if (seen === 3) break
    }
  }
})

test('an impossible loader is a usage error', () => {
  assert.throws(() => make({ batchSize: 51 }), /batch of 51 is larger than numbered, which has 50 images/)
  assert.throws(() => make({ batchSize: 0 }), /batch cannot have 0 images/)
  assert.throws(() => make({ workers: -1 }), /-1 threads/)
  assert.throws(() => make({ augment: 'strong' }), /augmentation 'strong'/)
})

test('evaluation batches: file order, exact normalisation, a short last batch, NHWC as a transpose', async () => {
  const nhwc: Preprocess = { ...preprocess, layout: 'NHWC' }
  const seen: number[] = []
  const counts: number[] = []
  const other = evalBatches(set, nhwc, 16)
  for await (const { images, labels, count } of evalBatches(set, preprocess, 16)) {
    counts.push(count)
    assert.equal(labels.length, count)
    const swapped = (await other.next()).value!
    for (let i = 0; i < count; i++) {
      const v = seen.length
      seen.push(which(images[i * 192]!))
      for (let c = 0; c < 3; c++) {
        const expected = Math.fround((v / 255 - preprocess.mean[c]!) / preprocess.std[c]!)
        assert.equal(images[i * 192 + c * 64 + 5], expected)
        assert.equal(swapped.images[i * 192 + 5 * 3 + c], expected)
      }
    }
  }
  assert.deepEqual(counts, [16, 16, 16, 2])
  assert.deepEqual(
    seen,
    Array.from({ length: 50 }, (_, i) => i),
  )
})

test('grey images are repeated into the channels, each with its own statistics', async () => {
  const grey = new Dataset({
    ...{ name: 'grey', split: 'test', classes: 2, channels: 1, height: 2, width: 2, labels: Int32Array.of(1) },
    images: Uint8Array.of(0, 51, 102, 255),
  })
  const p: Preprocess = { scale: 255, mean: [0, 0.2, 0.4], std: [1, 1, 0.5], size: [2, 2], layout: 'NCHW' }
  const { value } = await evalBatches(grey, p, 1).next()
  const rounded = Array.from(value!.images, (v) => Math.round(v * 1e6) / 1e6 + 0)
  assert.deepEqual(rounded, [0, 0.2, 0.4, 1, -0.2, 0, 0.2, 0.8, -0.8, -0.4, 0, 1.2])
})

test('batches are prepared while the thread that asks for them is blocked, as in an exchange of gradients', async () => {
  const size: [number, number] = [96, 96]
  const loader = (workers: number) =>
    createLoader(numbered(64), {
      ...{ batchSize: 64, preprocess: { ...preprocess, size }, augment: 'micronet', seed: 3, workers },
    })
  /** Milliseconds until each next batch is there. */
  async function waits(workers: number, blocked: number): Promise<number[]> {
    const found: number[] = []
    let mark = performance.now()
    for await (const _ of loader(workers).batches(0, 5)) {
      found.push(performance.now() - mark)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blocked)
      mark = performance.now()
    }
    return found.slice(1)
  }
  const alone = Math.min(...(await waits(0, 0)))
  const ahead = Math.min(...(await waits(1, 100 + 8 * alone)))
  assert.ok(ahead < alone / 3, `${ahead} ms behind an exchange, ${alone} ms to make a batch`)
})
