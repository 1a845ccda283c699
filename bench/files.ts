/**
 * Large files: time and peak memory of whole commands, against Python's onnx package and the onnxsim npm package on the
 * same files. Each side is a process of its own, and the sides take turns; medians. `seconds`: the whole process with its
 * start, into a file that does not exist yet: when it replaces another one, ext4 writes data out before it renames, on
 * both sides (500 MB:
 * 0.2 s more). `work`: from reading the file to the last byte written, when everything is imported (mnc as a library).
 *
 *   node --import tsx bench/files.ts help|fold-bn|prune|onnxsim|large ...   (needs `make build`)
 *
 * help: `mnc --help`. fold-bn: a pass that touches one layer of 100 and 500 MB. prune: one that touches all. onnxsim: the
 * pass fold-bn again, and what onnxsim does by default. large: a model of 2.3 GB of external data through info, fold-bn
 * and prune, mnc alone. Every result is read back and compared with the peer's, or with what it must be.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { LazyBytes } from '../src/base/bytes.ts'
import { Rng } from '../src/base/rng.ts'
import { readModel, writeModel } from '../src/codec/codec.ts'
import { Graph } from '../src/graph/graph.ts'
import { Model } from '../src/graph/model.ts'
import { countZeros, Tensor } from '../src/graph/tensor.ts'

const RESULTS = 'bench/results/files.json'
const PYTHON = process.env.PYTHON ?? '/usr/bin/python3'
const ONNXSIM = 'onnxsim@0.7.3'
const rng = new Rng(1)
/** Every weight is a stretch of these. */
const noise = Float32Array.from({ length: 1 << 22 }, () => rng.normal() * 0.02)

class Noise implements LazyBytes {
  readonly length: number
  readonly #shift: number
  constructor(length: number, shift: number) {
    this.length = length
    this.#shift = shift
  }
  read(start: number, end: number): Uint8Array {
    const out = new Float32Array((end - start) / 4)
    for (let i = 0; i < out.length; i++) out[i] = noise[(start / 4 + i + this.#shift) % noise.length]!
    return new Uint8Array(out.buffer)
  }
}

/** Convolutions of 3x3 over `width` channels, the first `norms` followed by BatchNormalization. */
function makeModel(layers: number, width: number, norms: number): Model {
  const graph = new Graph('large')
  const b = graph.append()
  const dims = [width, width, 3, 3]
  let x = graph.addInput('x', { elem: 'float32', dims: [1, width, 8, 8] })
  for (let i = 0; i < layers; i++) {
    const w = graph.addInitializer(`w${i}`, new Tensor('float32', dims, new Noise(width * width * 36, i * 12_345)))
    x = b.op('Conv', [x, w], { pads: [1, 1, 1, 1] }, { name: `c${i}` })
    const per = (name: string, at: (k: number) => number) =>
      graph.addInitializer(
        `${name}${i}`,
        Tensor.float32(
          [width],
          Float32Array.from({ length: width }, (_, k) => at(k)),
        ),
      )
    if (i < norms) {
      const [gamma, beta] = [per('gamma', (k) => 1 + k / width), per('beta', (k) => k / width - 0.5)]
      const [mean, variance] = [per('mean', (k) => 0.1 - k / width), per('var', (k) => 1 + (k % 7))]
      x = b.op('BatchNormalization', [x, gamma, beta, mean, variance], {}, { name: `b${i}` })
    }
    x = b.op('Relu', [x], {}, { name: `r${i}` })
  }
  x.setType({ elem: 'float32', dims: [1, width, 8, 8] })
  graph.addOutput(x)
  return new Model(graph, 13)
}

interface Run {
  readonly seconds: number
  /** What the process printed last; undefined for the command line. */
  readonly work?: number
  readonly peakMB: number
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!
const round = (x: number, digits = 3): number => Number(x.toFixed(digits))

function time(command: readonly string[]): Run {
  const [, output] = command.filter((a) => a.startsWith(scratch))
  if (output) rmSync(output, { force: true })
  execFileSync('sync')
  const log = join(scratch, 'time')
  const args = ['-o', log, '-f', '%e %M', ...command]
  const said = execFileSync('/usr/bin/time', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  const [seconds, kilobytes] = readFileSync(log, 'utf8').trim().split(' ').map(Number)
  const work = Number(said.trim().split(/\s/).at(-1))
  return { seconds: seconds!, peakMB: kilobytes! / 1024, ...(said !== '' && !Number.isNaN(work) && { work }) }
}

/** Sides take turns; one turn each that does not count comes first if `rounds` > 1. */
function compare(sides: Readonly<Record<string, readonly string[]>>, rounds: number): Record<string, Run> {
  const runs = Object.fromEntries(Object.keys(sides).map((k) => [k, [] as Run[]]))
  for (let r = rounds > 1 ? -1 : 0; r < rounds; r++)
    for (const [name, command] of Object.entries(sides)) {
      const run = time(command)
      if (r >= 0) runs[name]!.push(run)
    }
  const summary = (list: Run[]): Run => ({
    seconds: round(median(list.map((r) => r.seconds))),
    ...(list[0]?.work !== undefined && { work: round(median(list.map((r) => r.work!))) }),
    peakMB: round(Math.max(...list.map((r) => r.peakMB)), 1),
  })
  return Object.fromEntries(Object.entries(runs).map(([k, list]) => [k, summary(list)]))
}

const scratch = mkdtempSync(join(tmpdir(), 'mnc-bench-files-'))
const at = (name: string): string => join(scratch, name)
const library = (pass: string, to: string): string[] => [
  process.execPath,
  'bench/onnx/mnc-pass.mjs',
  pass,
  at('in.onnx'),
  to,
]
const mnc = (...args: string[]): string[] => [process.execPath, 'dist/cli.js', ...args]
const sizes = { '100 MB': 11, '500 MB': 53 } as const

function hasPython(): boolean {
  try {
    execFileSync(PYTHON, ['-c', 'import onnx, numpy'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function versus(pass: 'fold-bn' | 'prune', rounds: number): Promise<unknown> {
  if (!hasPython()) return 'left out: no python3-onnx'
  const out: Record<string, unknown> = {}
  for (const [size, layers] of Object.entries(sizes)) {
    await writeModel(makeModel(layers, 512, 1), at('in.onnx'))
    const sides = {
      mnc: mnc('pass', pass, at('in.onnx'), '-o', at('mnc.onnx'), '-q'),
      library: library(pass, at('library.onnx')),
      onnx: [PYTHON, `bench/onnx/${pass.replace('-', '_')}.py`, at('in.onnx'), at('python.onnx')],
    }
    const runs = compare(sides, rounds)
    await sameResult(pass)
    out[size] = { bytes: statSync(at('in.onnx')).size, ...runs, ...ratios(runs, 'onnx') }
  }
  return out
}

async function sameResult(pass: string): Promise<void> {
  const [ours, theirs] = [(await readModel(at('mnc.onnx'))).graph, (await readModel(at('python.onnx'))).graph]
  if (ours.nodeCount !== theirs.nodeCount) throw new Error(`${ours.nodeCount} nodes and ${theirs.nodeCount}`)
  const constant = (g: Graph, name: string): Tensor => g.find(name)!.constant!
  if (pass === 'prune') {
    const zeros = (g: Graph): number[] =>
      [...g.initializers()].flatMap((v) => (v.name.endsWith('.mask') ? [countZeros(v.constant!)] : []))
    // numpy's threshold keeps all that are equal to it, mnc as many as the sparsity says
    const [a, b] = [zeros(ours), zeros(theirs)]
    if (a.length !== b.length || a.some((n, i) => Math.abs(n - b[i]!) > 100)) throw new Error('the masks differ')
  } else {
    const [a, b] = [constant(ours, 'w0').toFloat32(), constant(theirs, 'w0').toFloat32()]
    for (let i = 0; i < a.length; i++) if (Math.abs(a[i]! - b[i]!) > 1e-7) throw new Error(`w0[${i}]: ${a[i]}, ${b[i]}`)
  }
}

/** onnxsim is not a dependency of the project: it is installed under build/ if it is not there yet. */
async function versusOnnxsim(): Promise<unknown> {
  const folder = resolve('build/peers')
  if (!existsSync(join(folder, 'node_modules/onnxsim'))) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{}')
    execFileSync('npm', ['install', '--no-save', '--ignore-scripts', ONNXSIM], { cwd: folder, stdio: 'ignore' })
  }
  cpSync('bench/onnx/simplify.mjs', join(folder, 'simplify.mjs'))
  const out: Record<string, unknown> = { version: ONNXSIM }
  for (const [size, layers] of Object.entries(sizes)) {
    await writeModel(makeModel(layers, 512, 1), at('in.onnx'))
    const sides = {
      mnc: mnc('pass', 'fold-bn', at('in.onnx'), '-o', at('mnc.onnx'), '-q'),
      library: library('fold-bn', at('library.onnx')),
      onnxsim: [process.execPath, join(folder, 'simplify.mjs'), at('in.onnx'), at('onnxsim.onnx')],
    }
    const runs = compare(sides, 1)
    const fused = [...(await readModel(at('onnxsim.onnx'))).graph.nodes()].every((n) => n.op !== 'BatchNormalization')
    if (!fused) throw new Error('onnxsim left the BatchNormalization')
    out[size] = { ...runs, ...ratios(runs, 'onnxsim') }
  }
  return out
}

/** How many times faster mnc is: whole process against whole process, work against work. */
const ratios = (runs: Readonly<Record<string, Run>>, peer: string): Record<string, number> => ({
  faster: round(runs[peer]!.seconds / runs.mnc!.seconds, 2),
  workFaster: round(runs[peer]!.work! / runs.library!.work!, 2),
})

/** 2.3 GB next to the model; the largest tensor is 37.7 MB, and prune must touch all of them. */
async function large(): Promise<unknown> {
  const [layers, width, norms] = [62, 1024, 3]
  await writeModel(makeModel(layers, width, norms), at('in.onnx'), { externalData: true })
  const largestMB = (width * width * 36) / 2 ** 20
  const start = time(mnc('--help'))
  const out: Record<string, unknown> = {
    dataBytes: statSync(at('in.onnx.data')).size,
    largestTensorMB: largestMB,
    allTensorsMB: largestMB * layers,
    bareProcessPeakMB: round(start.peakMB, 1),
  }
  const record = (task: string, r: Run): void => {
    out[task] = { ...r, peakMB: round(r.peakMB, 1), aboveBareMB: round(r.peakMB - start.peakMB, 1) }
  }
  record('info', time(mnc('info', at('in.onnx'), '-q')))
  record('fold-bn', time(mnc('pass', 'fold-bn', at('in.onnx'), '-o', at('folded.onnx'), '-q')))
  mkdirSync(at('elsewhere'))
  record('fold-bn elsewhere', time(mnc('pass', 'fold-bn', at('in.onnx'), '-o', at('elsewhere/folded.onnx'), '-q')))
  record('prune', time(mnc('pass', 'prune', at('in.onnx'), '-o', at('pruned.onnx'), '-q')))
  record('info pruned', time(mnc('info', at('pruned.onnx'), '-q')))
  const facts = JSON.parse(
    execFileSync(process.execPath, ['dist/cli.js', 'info', at('pruned.onnx'), '--json'], { encoding: 'utf8' }),
  )
  const zeros = facts.layers.reduce(
    (n: number, l: { weights: number; sparsity: number }) => n + l.weights * l.sparsity,
    0,
  )
  out.sparsity = round(zeros / facts.layers.reduce((n: number, l: { weights: number }) => n + l.weights, 0), 6)
  const [near, far] = [await readModel(at('folded.onnx')), await readModel(at('elsewhere/folded.onnx'))]
  for (const v of near.graph.initializers())
    if (!v.constant!.equals(far.graph.find(v.name)!.constant!)) throw new Error(`${v.name} differs`)
  return out
}

function help(): unknown {
  const runs = compare({ mnc: mnc('--help'), node: [process.execPath, '-e', '0'] }, 15)
  return { ...runs, milliseconds: runs.mnc!.seconds * 1000 }
}

const tasks: Readonly<Record<string, () => unknown>> = {
  help,
  'fold-bn': () => versus('fold-bn', 5),
  prune: () => versus('prune', 3),
  onnxsim: versusOnnxsim,
  large,
}
const known = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}
try {
  for (const name of process.argv.slice(2)) {
    const result = await tasks[name]!()
    console.log(name, JSON.stringify(result, null, 2))
    Object.assign(known, { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version, [name]: result })
    writeFileSync(RESULTS, `${JSON.stringify(known, null, 2)}\n`)
  }
} finally {
  rmSync(scratch, { recursive: true })
}
