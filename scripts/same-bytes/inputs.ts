/** The inputs that both builds get, made once: random models, golden cases, two built networks, recipes, a damaged file. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodeModel } from '../../src/codec/codec.ts'
import { readCases } from '../../test/passes/golden.ts'
import { randomGraph } from '../../test/support/random-graph.ts'

export const RANDOM_MODELS = 24

const train = { 'max-steps': 2, batch: 8, limit: 64, workers: 0, threads: 1, augment: 'none' }

const tiny = {
  name: 'tiny',
  data: 'embedded',
  seed: 3,
  defaults: { train, eval: { limit: 40 }, 'bn-update': { limit: 40, batch: 8, augment: 'none' } },
  stages: [
    { name: 'dense', build: { family: 'densenet-bc', depth: 10, growth: 2, size: 28, channels: 1 }, train: {} },
    {
      ...{ name: 'small', from: 'dense', teacher: 'dense', score: true },
      passes: [
        { prune: { sparsity: 0.5, ops: ['Conv', 'Gemm'] } },
        { quantize: { ops: ['Conv', 'Gemm'], limit: 16, batch: 8, 'weight-bits': 4 } },
      ],
      ...{ train: { loss: 'kl' }, 'bn-update': {} },
    },
    {
      ...{ name: 'packed', from: 'small', export: { format: 'packed', 'allow-larger': true } },
      check: [{ limit: 40, 'max-drop': 0.999 }],
    },
  ],
}

interface Stage {
  readonly 'bn-update'?: object
  readonly check?: readonly object[]
}

/** The quickstart's recipe, each stage two steps long and measured on few images; its gates always open. */
function shortQuickstart(): object {
  const recipe = JSON.parse(readFileSync('models/quickstart.json', 'utf8')) as { stages: readonly Stage[] }
  const stages = recipe.stages.map((stage) => ({
    ...stage,
    ...(stage['bn-update'] && { 'bn-update': { ...stage['bn-update'], limit: 64 } }),
    ...(stage.check && { check: stage.check.map((gate) => ({ ...gate, limit: 40, ...opened(gate) })) }),
  }))
  return { ...recipe, $schema: undefined, defaults: { train, eval: { limit: 40 } }, stages }
}

const opened = (gate: object): object =>
  Object.fromEntries(Object.keys(gate).flatMap((k) => (/^max/.test(k) ? [[k, 0.999]] : [])))

export function makeInputs(folder: string, cli: string): void {
  mkdirSync(join(folder, 'goldens'), { recursive: true })
  const write = (name: string, content: string | Uint8Array): void => writeFileSync(join(folder, name), content)
  const build = (...args: string[]): void => {
    execFileSync(process.execPath, [cli, 'build', ...args], { cwd: folder })
  }
  const image = ['--classes', '10', '--channels', '1', '--size', '28']
  build('resnet', '--depth', '8', '--width', '4', ...image, '-o', 'small.onnx')
  build('densenet-bc', '--depth', '10', '--growth', '4', ...image, '-o', 'teacher.onnx', '--seed', '1')
  for (let seed = 0; seed < RANDOM_MODELS; seed++) write(`random-${seed}.onnx`, encodeModel(randomGraph(seed)))
  for (const { pass, name, input } of readCases()) write(`goldens/${pass}-${name}.txt`, input)
  write('damaged.onnx', readFileSync(join(folder, 'small.onnx')).subarray(0, 5000))
  write('tiny.json', JSON.stringify(tiny))
  write('quickstart.json', JSON.stringify(shortQuickstart()))
}
