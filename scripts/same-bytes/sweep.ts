/**
 * Through the library of one build, in one process: every golden case, and every pass with its defaults and every export
 * format on each random model. Writes each result as a file of the model, and of what was said. Arguments: the build's package.
 * The working folder is the case's.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as Library from '../../src/index.ts'
import { readCases } from '../../test/passes/golden.ts'

const [build] = process.argv.slice(2) as [string]
const mnc: typeof Library = await import(pathToFileURL(join(build, 'dist/index.js')).href)

/** Feeds of one batch, from a linear congruential generator: the same whatever the build's own one is. */
function* batches(model: Library.Model, count: number): Generator<Record<string, Library.Tensor>> {
  let state = 1
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32) * 4 - 2
  }
  for (let i = 0; i < count; i++)
    yield Object.fromEntries(
      model.graph.fed.flatMap(({ name, type }) => {
        if (!type) return []
        const dims = (type.dims ?? []).map((d) => (typeof d === 'number' ? d : 3))
        const size = dims.reduce((a, b) => a * b, 1)
        return [[name, mnc.Tensor.from(type.elem, dims, Float32Array.from({ length: size }, next))]]
      }),
    )
}

/** Edits the model, and writes it, or what it gives in its place; with what else was said, or the refusal. */
async function attempt(
  name: string,
  model: Library.Model,
  edit: () => Promise<Library.PassResult | { readonly model: Library.Model; readonly report: Library.ExportReport }>,
): Promise<void> {
  try {
    const said = { model, ...(await edit()), milliseconds: 0 }
    writeFileSync(`${name}.onnx`, mnc.encodeModel(said.model))
    writeFileSync(`${name}.json`, JSON.stringify({ ...said, model: undefined }))
  } catch (e) {
    if (!(e instanceof mnc.MncError)) throw e
    writeFileSync(`${name}.txt`, `${e.code} ${e.blame} ${e.describe()}`)
  }
}

const calibrated = (model: Library.Model, count: number): Partial<Library.PassContext> => {
  const made = [...batches(model, count)]
  return {
    calibration: {
      async *batches() {
        yield* made
      },
    },
  }
}

mkdirSync('goldens')
for (const c of readCases()) {
  const model = mnc.parseModel(c.input)
  const options = c.options.teacher ? { ...c.options, teacher: join(c.file, '..', 'teacher.onnxtxt') } : c.options
  const context = c.batches > 0 ? calibrated(model, c.batches) : {}
  await attempt(`goldens/${c.pass}-${c.name}`, model, () =>
    mnc.pass(model, c.pass as Library.PassName, options, context),
  )
}

const models = readdirSync('../in').filter((f) => f.startsWith('random-'))
for (const file of models) {
  const bytes = readFileSync(join('../in', file))
  const name = file.replace('.onnx', '')
  mkdirSync(name)
  for (const { name: pass } of mnc.passes) {
    const model = mnc.decodeModel(bytes)
    const options = pass === 'merge-teacher' ? { teacher: join('../in', file) } : {}
    await attempt(`${name}/${pass}`, model, () =>
      mnc.pass(model, pass as Library.PassName, options, calibrated(model, 2)),
    )
  }
  for (const format of ['packed', 'int4', 'int8'] as const) {
    const model = mnc.decodeModel(bytes)
    const ops = ['Conv', 'Gemm', 'MatMul', 'ConvTranspose']
    await attempt(`${name}/export-${format}`, model, async () => {
      await mnc.pass(model, 'prune', { sparsity: 0.5, ops })
      await mnc.pass(model, 'quantize', { ops }, calibrated(model, 2))
      return mnc.exportModel(model, { format })
    })
  }
}
process.exit(0)
