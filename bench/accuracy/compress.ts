/**
 * `mnc compress` with nothing but a goal, data and time: what it reaches on networks of the zoo, with the command itself (built), its
 * exit code, the figures that it reports on the full test set, and the time it takes. Models without labelled data get 100
 * inputs of their kind (own-inputs.ts; silero VAD, whose inputs have other first dims, random ones) and are compared with the float model by the cosine of their outputs.
 *
 *   node --import tsx bench/accuracy/compress.ts [--rows resnet20-8bit,kaist-8bit,...] [--keep DIR] [--out bench/results/compress.json]
 *
 * --keep leaves each row's files and the progress of its command (ROW.log) in DIR. Rows that are in the result already are made again only if they are named. Expects a build, CIFAR in .data, models in .data/zoo.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { writeFileAtomic } from '../../src/base/files.ts'
import { boxesWithin, kinds, writeInputs } from './own-inputs.ts'

const { values: given } = parseArgs({
  options: {
    rows: { type: 'string' },
    note: { type: 'string' },
    keep: { type: 'string' },
    out: { type: 'string', default: 'bench/results/compress.json' },
  },
})

interface Task {
  readonly model: string
  /** Of the command, besides the model and -o. */
  readonly args: readonly string[]
  readonly wanted: string
}

const zoo = (name: string): string => `.data/zoo/${name}.onnx`
const resnet20 = zoo('akamaster_resnet20_bn_op13')
const cifar10 = '--data cifar10:.data/cifar-10 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225'.split(' ')
const cifar100 = '--data cifar100:.data/cifar-100 --mean 0.5071,0.4865,0.4409 --std 0.2673,0.2564,0.2762'.split(' ')
const kaist = zoo('micronet_kaist_v2_pr15_op14')
const inputs = (row: string): string => `build/own-inputs/${row}`
const alike = (model: string, data: string): Task => ({
  model: zoo(model),
  args: ['--data', data, '--min-cosine', '0.999'],
  wanted: '8 bits, cosine of the outputs >= 0.999 (boxes: 99 % within IoU 0.95), < 3 min',
})
const own = (row: string, model: string): Task => alike(model, `npy:${inputs(row)}`)

const tasks: Readonly<Record<string, Task>> = {
  'resnet20-8bit': {
    model: resnet20,
    args: [...cifar10, '--max-drop', '0.2%'],
    wanted: '8 bits within 0.2 points, < 2 min',
  },
  'kaist-8bit': {
    model: kaist,
    args: [...cifar100, '--max-drop', '0.3%'],
    wanted: '8 bits within 0.3 points, < 3 min',
  },
  ultraface: own('ultraface', 'ultraface_version-RFB-320'),
  'silero-vad': alike('silero_vad_16k_op15', 'random'),
  'super-resolution': own('super-resolution', 'pytorch_super_resolution'),
  fastestdet: own('fastestdet', 'FastestDet'),
  magika: own('magika', 'magika_standard_v2_1'),
  bert: own('bert', 'ort_bert_toy_optimized'),
  'resnet20-85kb': {
    model: resnet20,
    args: [...cifar10, '--goal', 'bytes=85KB', '--time', '60m'],
    wanted: '>= 91.0 %, 60 min',
  },
  'resnet20-70kb': {
    model: resnet20,
    args: [...cifar10, '--goal', 'bytes=70KB', '--time', '90m'],
    wanted: '>= 90.5 %, 90 min',
  },
  'resnet56-4bit': {
    model: zoo('akamaster_resnet56_bn_op10'),
    args: [...cifar10, '--goal', 'bytes=510KB', '--max-drop', '0.5%', '--time', '60m'],
    wanted: '4 bits within 0.5 points, <= 0.6 bytes a weight, 60 min',
  },
  'kaist-4bit': {
    model: kaist,
    args: [...cifar100, '--target', 'size', '--max-drop', '1%', '--time', '60m'],
    wanted: '4-bit weights within 1.0, 60 min',
  },
}

interface Row {
  readonly row: string
  readonly wanted: string
  readonly command: string
  readonly exit: number | null
  readonly seconds: number
  readonly error: string | null
  readonly point: string | null
  readonly bytes: number | null
  readonly floatBytes: number | null
  /** Judgement on the test samples. */
  readonly test: unknown
  readonly met: boolean | null
  /** Of a detector's boxes, those within IoU 0.95 of the float model's. */
  readonly boxes?: number
  /** About the machine at the time. */
  readonly note?: string
}

const rows: Row[] = existsSync(given.out) ? JSON.parse(readFileSync(given.out, 'utf8')).rows : []
const named = given.rows?.split(',') ?? Object.keys(tasks).filter((name) => !rows.some((r) => r.row === name))

async function make(row: string, { model, args, wanted }: Task): Promise<Row> {
  const kind = row in kinds ? kinds[row as keyof typeof kinds] : null
  if (kind) writeInputs(kind, inputs(row))
  const folder = given.keep ? resolve(given.keep, row) : mkdtempSync(join(tmpdir(), 'mnc-bench-'))
  mkdirSync(folder, { recursive: true })
  const log = join(folder, `${row}.log`)
  const progress = openSync(log, 'w')
  const words = ['compress', model, ...args]
  const start = performance.now()
  try {
    const { status, stdout } = spawnSync('node', ['dist/cli.js', ...words, '--json', '-o', join(folder, 'out.onnx')], {
      ...{ encoding: 'utf8', maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', progress] },
    })
    const seconds = (performance.now() - start) / 1000
    const json = stdout.trim() === '' ? null : JSON.parse(stdout)
    const boxes = status === 0 ? await boxesWithin(row, model, join(folder, 'out.onnx')) : null
    const error = status === 0 ? null : (readFileSync(log, 'utf8').trim().split('\n').at(-1) ?? null)
    return {
      ...{ row, wanted, command: `mnc ${words.join(' ')}`, exit: status, seconds, error },
      ...{ point: json?.chosen.name ?? null, bytes: json?.chosen.bytes ?? null, floatBytes: json?.found.bytes ?? null },
      ...{ test: json?.test ?? null, met: json?.verdict.met ?? null },
      ...(boxes !== null && { boxes }),
      ...(given.note && { note: given.note }),
    }
  } finally {
    closeSync(progress)
    if (!given.keep) rmSync(folder, { recursive: true, force: true })
  }
}

for (const name of named) {
  const task = tasks[name]
  if (!task) throw new Error(`there is no row ${name}; the rows are ${Object.keys(tasks).join(', ')}`)
  const made = await make(name, task)
  process.stdout.write(`${JSON.stringify(made)}\n`)
  const at = rows.findIndex((r) => r.row === name)
  rows.splice(at < 0 ? rows.length : at, at < 0 ? 0 : 1, made)
  const machine = { cpu: cpus()[0]?.model ?? '', cores: cpus().length }
  await writeFileAtomic(given.out, `${JSON.stringify({ machine, rows }, null, 2)}\n`)
}
