/**
 * What must hold of any data set (random-datasets.ts), asked of `mnc eval` with a tiny network: a valid one is measured over
 * just the images that were put into it, with just their labels and pixels, and what is not part of it is counted; a broken
 * one is refused by exit 2 and one line; none takes over ten seconds.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { openPictures } from '../../src/data/index.ts'
import { Sink } from '../cli/sink.ts'
import type { CaseOutcome } from './fuzz-case.ts'
import { inMemory } from './in-memory.ts'
import { type MadeDataset, makeDataset, type SplitName } from './random-datasets.ts'

/** Of the processor's time. */
const LIMIT_MS = 10_000

/** The mean of each channel, times a matrix: takes images of any size. */
const network = (channels: number, classes: number) =>
  parseModel(`onnx {ir_version=10}
opset ai.onnx=21
@mnc.preprocess=${JSON.stringify(JSON.stringify({ scale: 255, mean: Array(channels).fill(0.5), std: Array(channels).fill(0.5), size: [8, 8], layout: 'NCHW' }))}
graph "g"
  input %x : float32[N,${channels},8,8]
  init %w = float32[${channels},${classes}] [${Array.from({ length: channels * classes }, (_, i) => ((i * 7) % 11) / 10 - 0.5).join(', ')}]
  init %axes = int64[2] [2, 3]
  %mean = ReduceMean(%x, %axes) {keepdims=0}
  %y : float32[N,${classes}] = MatMul(%mean, %w)
  output %y
end
`)

/** Makes the set of `seed` below `scratch`, tries it, and clears up. */
export async function tryDataset(seed: number, scratch: string): Promise<CaseOutcome> {
  const at = join(scratch, `set-${seed}`)
  mkdirSync(at, { recursive: true })
  const made = makeDataset(seed, at)
  const start = process.cpuUsage()
  const faults: string[] = []
  try {
    const model = join(at, 'net.onnx')
    await writeModel(network(made.channels, made.classes), model)
    for (const split of ['train', 'test'] as const) faults.push(...(await trySplit(made, split, model)))
  } catch (error) {
    faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  } finally {
    rmSync(at, { recursive: true, force: true })
  }
  const { user, system } = process.cpuUsage(start)
  const milliseconds = (user + system) / 1000
  if (milliseconds > LIMIT_MS) faults.push(`${milliseconds.toFixed(0)} ms`)
  const code = `${made.reference.split(':')[0]} ${made.splits ? 'measured' : 'refused'}`
  return { code, milliseconds, ...(faults.length > 0 && { failure: `${made.what}: ${faults.join('\n')}` }) }
}

async function trySplit(made: MadeDataset, split: SplitName, model: string): Promise<string[]> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const reference = `${made.reference}#${split}`
  const exit = await runCommandLine(['eval', model, '--data', reference, '--json'], { stdout, stderr })
  const said = stderr.text.trim()
  if (!made.splits) {
    const errors = said.split('\n').filter((line) => line.startsWith('mnc: '))
    return exit === 2 && errors.length === 1 ? [] : [`${split}: exit ${exit} for a broken set: ${said.slice(0, 500)}`]
  }
  if (exit !== 0) return [`${split}: exit ${exit}: ${said.slice(0, 500)}`]
  const { images } = made.splits[split]
  const { samples, data } = JSON.parse(stdout.text) as { samples: number; data: { classes: number; notes: string[] } }
  const faults: string[] = []
  if (samples !== images.length) faults.push(`${split}: ${samples} images of ${images.length}`)
  if (data.classes !== made.classes) faults.push(`${split}: ${data.classes} classes, not ${made.classes}`)
  const counted = data.notes.flatMap((n) =>
    n.startsWith('left out: ') ? [...n.matchAll(/(\d+) /g)].map((m) => Number(m[1])) : [],
  )
  const total = counted.reduce((a, b) => a + b, 0)
  if (total !== made.leftOut[split]) faults.push(`${split}: ${total} left out, not ${made.leftOut[split]}`)
  const set = await inMemory(await openPictures(reference, 'train'))
  const found = Array.from(set.labels, (label, i) => [set.classNames?.[label] ?? label, set.image(i)[0]])
  const sorted = (list: readonly (readonly unknown[])[]): string =>
    list
      .map((x) => JSON.stringify(x))
      .sort()
      .join()
  if (sorted(found) !== sorted(images)) faults.push(`${split}: ${sorted(found)} for ${sorted(images)}`)
  return faults
}
