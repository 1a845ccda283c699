/**
 * The files of targets and formats in every reader found here, against what the graph computes:
 *
 *   MNC_READERS=venv/bin/python:... node --import tsx bench/readers.ts [--only UltraFace:float,BERT] [--out bench/results/readers.json]
 *
 * Networks of the zoo, quantised on random inputs (which readers take a file, and whether they compute the same, does not depend on
 * what was learned), each written in every form, each form in every onnxruntime, OpenVINO and OpenCV of MNC_READERS and in
 * onnxruntime-web (on WebAssembly). `demands` says what of the file's contents not every reader takes: test/analysis/readers.test.ts
 * holds the table of facts against these results.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Demand, demandsOf } from '../src/analysis/readers.ts'
import { errorOf } from '../src/check/check-readers.ts'
import { installedReaders, runIn } from '../src/check/installed-readers.ts'
import { readModel, writeModel } from '../src/codec/codec.ts'
import { calibrationData } from '../src/data/index.ts'
import { exportFor, type ForOptions } from '../src/export/targets/export-for.ts'
import type { Model } from '../src/graph/model.ts'
import { runPass } from '../src/passes/run-pass.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { randomInputs } from '../src/samples/random-inputs.ts'
import { machine } from './torch-peer.ts'

const { values: args } = parseArgs({
  options: {
    out: { type: 'string', default: 'bench/results/readers.json' },
    only: { type: 'string' },
    zoo: { type: 'string', default: '.data/zoo' },
  },
})
const SAMPLES = 4

const nets = {
  'ResNet-20': 'akamaster_resnet20_bn_op13.onnx',
  UltraFace: 'ultraface_version-RFB-320.onnx',
  BERT: 'ort_bert_toy_optimized.onnx',
} as const

const widths = {
  w8a8: { weightBits: 8, activationBits: 8 },
  w4a8: { weightBits: 4, activationBits: 8 },
  w4a4: { weightBits: 4, activationBits: 4 },
} as const
const convolved: readonly ForOptions[] = [
  ...['size', 'opset13', 'openvino', 'web'].map((target) => ({ target })),
  ...(['int8', 'int4'] as const).map((format) => ({ format })),
]
const productsOnly: readonly ForOptions[] = [{ target: 'weight-only' }]

interface Case {
  readonly net: string
  readonly bits: string
  readonly graph: () => Promise<Model>
  readonly forms: readonly ForOptions[]
}

async function quantised(path: string, options: object): Promise<Model> {
  const model = await readModel(path)
  await runPass(model, 'quantize', options, {
    calibration: await calibrationData(model, 'random', { limit: 8, batch: 4 }),
  })
  return model
}

function* cases(): Generator<Case> {
  for (const [net, file] of Object.entries(nets)) {
    const path = join(args.zoo, file)
    if (!existsSync(path)) continue
    yield { net, bits: 'float', graph: () => readModel(path), forms: [{ format: 'float' }, { target: 'fp16' }] }
    if (net === 'BERT')
      for (const weightBits of [2, 4, 8]) {
        const options = { ops: ['MatMul', 'Gemm'], weightBits, activationBits: 0, weightGroup: 32 }
        yield { net, bits: `w${weightBits}`, graph: () => quantised(path, options), forms: productsOnly }
      }
    // one width is enough to see another network
    else
      for (const [bits, options] of Object.entries(widths).slice(0, net === 'UltraFace' ? 1 : 3))
        yield { net, bits, graph: () => quantised(path, options), forms: convolved }
  }
}

const nameOf = ({ target, format }: ForOptions): string => (target ? `target ${target}` : `format ${format}`)

const readers = await installedReaders()
const folder = mkdtempSync(join(tmpdir(), 'mnc-bench-readers-'))
interface Row {
  readonly net: string
  readonly bits: string
  readonly file: string
}

/** What a row says besides. */
interface Facts {
  readonly format: string
  readonly bytes: number
  readonly demands: readonly Demand[]
  readonly readers: readonly object[]
}

const isSame = (a: Row, b: Row): boolean => a.net === b.net && a.bits === b.bits && a.file === b.file
const only = args.only?.split(',')
// those that are not measured again stay
let files: (Row & Facts)[] = only ? JSON.parse(readFileSync(args.out, 'utf8')).files : []
await mkdir(dirname(args.out), { recursive: true })
try {
  for (const { net, bits, graph: made, forms } of cases()) {
    if (only && !only.some((o) => o === net || o === `${net}:${bits}`)) continue
    const graph = await made()
    const { batch, feeds } = await randomInputs(graph, SAMPLES)
    const inputs = Array.from({ length: Math.ceil(SAMPLES / batch) }, (_, i) => feeds(1, i))
    const output = graph.graph.outputs[0]!.name
    const session = await ortExecutor().load(graph, { optimization: 'disabled' })
    const want: Float32Array[] = []
    for (const x of inputs) want.push((await session.run(x, [output]))[output]!.toFloat32())
    await session.dispose()
    for (const form of forms) {
      const { model, report } = await exportFor(graph, form)
      const path = join(folder, 'file.onnx')
      await writeModel(model, path)
      const rows: object[] = []
      for (const reader of readers) {
        const ran = await runIn(reader, path, inputs)
        const error = 'outputs' in ran ? errorOf(want, ran.outputs) : Number.POSITIVE_INFINITY
        const why = 'outputs' in ran ? 'outputs of another size, or not finite' : ran.refusal.slice(0, 120)
        const outcome = Number.isFinite(error) ? { maxRelError: Number(error.toPrecision(2)) } : { refusal: why }
        rows.push({ reader: reader.reader, version: reader.version, ...outcome })
      }
      const seen = new Map([...demandsOf(model)].map((d) => [d.fact, d]))
      const row = { net, bits, file: nameOf(form), format: report.format, bytes: report.bytes }
      files = [...files.filter((f) => !isSame(f, row)), { ...row, demands: [...seen.values()], readers: rows }]
      await writeFile(args.out, `${JSON.stringify({ machine: machine(), samples: SAMPLES, files }, null, 2)}\n`)
      process.stderr.write(`${net} ${bits} ${nameOf(form)}: ${JSON.stringify(rows)}\n`)
    }
  }
} finally {
  rmSync(folder, { recursive: true })
}
