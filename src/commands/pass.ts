/** `mnc pass NAME`: one subcommand for each pass, made from the pass's declaration. */
import { extname } from 'node:path'
import type { PassDef } from '../pass-manager/define-pass.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { calibrate, calibrationTable, recordGivenSizes } from './calibration.ts'
import { type CommandDef, defineCommand, output } from './define-command.ts'
import { table } from './table.ts'

export const pass = defineCommand({
  name: 'pass',
  summary: 'Apply one pass to a model; mnc prune is short for mnc pass prune',
  lifts: true,
  arguments: [{ name: 'NAME', description: 'A pass', optional: true }],
  options: { list: { type: 'boolean', default: false, description: 'List the passes' } },
  examples: ['mnc pass --list', 'mnc pass prune --sparsity 0.75 student.onnx', 'mnc pass quantize --help'],
  async subcommands() {
    const { passes } = await import('../passes/index.ts')
    const { namesOf } = await import('../pass-manager/define-pass.ts')
    return passes.map((def) => commandOf(def, namesOf(def)))
  },
  async run(_, { list }, io) {
    const { usageError } = await import('../base/errors.ts')
    if (!list) throw usageError('mnc pass needs the name of a pass', 'mnc pass --list shows them')
    const { passes } = await import('../passes/index.ts')
    const { jsonSchemaOf } = await import('../base/options.ts')
    const facts = passes.map(({ name, alias, summary, preserves, isInner = false, options }) => ({
      ...{ name, alias: alias ?? null, summary, preserves, inner: isInner, options: jsonSchemaOf(options) },
    }))
    io.result(facts, (width) => listOf(passes, width))
  },
})

/** Passes that users call, by the name to type; then those that commands run for them. */
function listOf(passes: readonly PassDef[], width: number): string {
  const rows = (inner: boolean): string[][] =>
    passes
      .filter((p) => (p.isInner ?? false) === inner)
      .map((p) => [`  ${p.alias ?? p.name}`, p.alias ? `${p.summary} (${p.name})` : p.summary])
  const inner = 'run by train, export and ptq where they need them:'
  return ['to call:', table(rows(false), 'll', width), '', inner, table(rows(true), 'll', width)].join('\n')
}

function commandOf(def: PassDef, [short = def.name, ...aliases]: readonly string[]): CommandDef {
  return {
    name: short,
    aliases,
    summary: def.summary,
    arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
    options: {
      ...def.options,
      ...(def.data && calibrationTable),
      ...probeOptions,
      explain: { type: 'boolean', default: false, description: 'Show what was left alone, and why' },
      output,
    },
    async run([path = ''], options, io) {
      const { readModel, writeModel } = await import('../codec/codec.ts')
      const { applyPass } = await import('../pass-manager/manager.ts')
      const { describeDeclined } = await import('../layers/left-weights.ts')
      const model = await readModel(path)
      if (def.data) await recordGivenSizes(model, options, def.name)
      const own = Object.fromEntries(Object.keys(def.options).map((k) => [k, options[k]]))
      const calibration =
        def.data && typeof options.data === 'string'
          ? await calibrate(model, options.data, options, { name: short, io })
          : undefined
      const { changed, declined, left, milliseconds } = await applyPass(model, def, own, {
        seed: io.seed,
        log: (message) => io.log(message),
        ...(calibration && { calibration }),
      })
      for (const line of describeDeclined(short, { declined, left }, options.explain === true)) io.log(line)
      io.detail(`${short}: ${milliseconds.toFixed(1)} ms, ${model.graph.nodeCount} nodes`)
      if (!changed) io.log(`${short}: nothing to change`)
      const out = typeof options.output === 'string' ? options.output : outputBeside(path, short)
      await writeModel(model, out)
      io.wrote(out, { changed, declined, left })
    },
  }
}

/** `student.onnx` and `prune` make `student.prune.onnx`; standard input goes to standard output. */
export function outputBeside(path: string, suffix: string): string {
  if (path === '-') return '-'
  const ext = extname(path)
  return `${path.slice(0, path.length - ext.length)}.${suffix}${ext || '.onnx'}`
}
