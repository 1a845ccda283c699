/** A small net that is sure of what it sees, and its data with two splits: what tests of compressing start from. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { writeModel } from '../../src/codec/codec.ts'
import type { Dataset } from '../../src/data/dataset.ts'
import { writePreprocess } from '../../src/data/preprocess.ts'
import type { Model } from '../../src/graph/model.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import { npy, npz } from '../support/data-files.ts'
import { CLASSES, images, pixels, run, SIZE } from '../train/fixtures.ts'

export const folder = mkdtempSync(join(tmpdir(), 'mnc-compress-'))
after(() => rmSync(folder, { recursive: true, force: true }))
export const at = (...names: readonly string[]): string => join(folder, ...names)

/** Wide enough that its weights outweigh the nodes of a file. */
function wideNet(): Model {
  const net = new NetworkBuilder(new Rng(1))
  let x = net.conv(net.input({ channels: 1, size: SIZE }), 'stem', 8, { kernel: 3 })
  x = net.relu(net.batchNorm(x, 'stem.bn'), 'stem.relu')
  x = net.relu(net.batchNorm(net.conv(x, 'body', 32, { kernel: 3, stride: 2 }), 'body.bn'), 'body.relu')
  x = net.relu(net.batchNorm(net.conv(x, 'last', 32, { kernel: 3 }), 'last.bn'), 'last.relu')
  return net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', CLASSES, 'logits'))
}

const bytesIn = (set: Dataset): Uint8Array => Uint8Array.from(set.images)
const labelsIn = (set: Dataset): Uint8Array => Uint8Array.from(set.labels)

/** Writes `net.onnx` and `set.npz`; returns their paths. */
export async function netAndData(): Promise<{ readonly net: string; readonly data: string; readonly model: Model }> {
  const all = images(260)
  const [train, test] = [all.take(200), all.select(Array.from({ length: 60 }, (_, i) => 200 + i))]
  const { model } = await run(wideNet(), { epochs: 4, batch: 10, lr: 0.05 }, { data: train })
  writePreprocess(model, pixels)
  const dims = (n: number): number[] => [n, SIZE, SIZE]
  writeFileSync(
    at('set.npz'),
    npz({
      train_images: npy(bytesIn(train), dims(200)),
      train_labels: npy(labelsIn(train), [200]),
      test_images: npy(bytesIn(test), dims(60)),
      test_labels: npy(labelsIn(test), [60]),
    }),
  )
  await writeModel(model, at('net.onnx'))
  return { net: at('net.onnx'), data: `npz:${at('set.npz')}`, model }
}

/** Seconds, not minutes. */
export const quick = { batch: 10, limit: 40, workers: 0, threads: 1 } as const
