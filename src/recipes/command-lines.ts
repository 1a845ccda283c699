/** A stage as the individual commands that do the same: what a dry run shows, and what a Makefile would chain. */
import { flagOf, type OptionTable } from '../base/options.ts'
import type { NetworkSpec } from '../models/spec.ts'
import { type Graphs, passTable, type Stage, type StageTable, stageTables } from './recipe.ts'

/** One line per command, in order; options with their default values are left out. */
export function commandLines(stage: Stage): readonly string[] {
  const { source, teacher, data, reading, seed } = stage
  const fed = data === null ? [] : ['--data', data, ...own('reading', reading)]
  const seeded = seed === 0 ? [] : ['--seed', String(seed)]
  const lines: string[][] = []
  if (source.kind === 'build')
    lines.push(['build', source.reference, ...(source.inline ? specFlags(source.spec) : []), ...seeded])
  for (const { def, options, calibration } of stage.passes)
    lines.push([
      ...['pass', def.alias ?? def.name, ...flags(passTable(def), { ...options, ...calibration })],
      ...(calibration ? [...own('sizes', stage.sizes), ...fed] : []),
    ])
  if (stage.train) {
    const taught = teacher ? ['--teacher', fileOf(teacher)] : []
    const foreign = [...own('pixels', stage.pixels), ...own('sizes', stage.sizes)]
    lines.push(['train', ...own('train', stage.train), ...taught, ...foreign, ...fed, ...seeded])
  }
  if (stage.bnUpdate) lines.push(['bn-update', ...own('bn-update', stage.bnUpdate), ...fed, ...seeded])
  if (stage.export) lines.push(['export', ...own('export', stage.export)])
  if (stage.eval) lines.push(['eval', ...own('eval', stage.eval), ...fed])
  if (stage.score) lines.push(['score', ...own('score', stage.score)])
  for (const { against, options } of stage.checks)
    lines.push(['check', fileOf(against), ...own('check', options), ...fed])
  return lines.map((words) => words.join(' '))
}

const fileOf = (graph: Graphs): string => (graph.kind === 'file' ? graph.path : `${graph.name}.onnx`)

const own = (name: StageTable, options: Readonly<Record<string, unknown>>): string[] =>
  flags(stageTables[name], options)

/** A spec in the recipe as the flags of its family. */
const specFlags = ({ family: _f, $schema: _s, description: _d, ...options }: NetworkSpec): string[] =>
  Object.entries(options).flatMap(([name, value]) => [flagOf(name), String(value)])

/** Flags of the options that differ from their defaults. */
function flags(table: OptionTable, options: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(table).flatMap(([name, spec]) => {
    const value = options[name]
    if (value === undefined || JSON.stringify(value) === JSON.stringify(spec.default)) return []
    if (value === true) return [flagOf(name)]
    if (value === false) return spec.default === true ? [flagOf(name).replace(/^--/, '--no-')] : []
    if (spec.type === 'stringMap' && value)
      return Object.entries(value).flatMap(([k, v]) => [flagOf(name), `${k}=${v}`])
    if (Array.isArray(value)) return [flagOf(name), value.join(',')]
    if (typeof value === 'object' && value !== null)
      return [
        flagOf(name),
        Object.entries(value)
          .map(([k, v]) => `${k}=${v}`)
          .join(','),
      ]
    return [flagOf(name), String(value)]
  })
}
