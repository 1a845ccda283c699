/** `mnc bench`: latency and throughput of files, side by side. */

import { latencyOptions } from '../latency/latency-options.ts'
import type { Measured, Setting } from '../latency/measure.ts'
import type { OperatorProfile } from '../latency/operators.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand } from './define-command.ts'
import { openModel } from './open-model.ts'
import { percent, table } from './table.ts'

/** Rows of a profile that a person reads. */
const SHOWN = 12

interface Profiled extends OperatorProfile {
  readonly file: string
  readonly threads: number
  readonly batch: number
}

export const bench = defineCommand({
  name: 'bench',
  summary: 'Measure the latency and throughput of one or several models, run in turn',
  arguments: [
    { name: 'MODEL', description: 'The model that the others are compared with' },
    { name: 'MODELS', description: 'More models', optional: true, isList: true },
  ],
  options: {
    ...latencyOptions,
    profile: { type: 'boolean', default: false, description: 'Also the time by operator and by node' },
    ...sizeOptions,
    ...probeOptions,
  },
  examples: ['mnc bench net.onnx net.int8.onnx --threads 1,0 --batch 1,32', 'mnc bench net.int8.onnx --profile --json'],
  async run(paths, options, io) {
    const { usageError } = await import('../base/errors.ts')
    const { announceDevice } = await import('../runtime/devices/device.ts')
    const { isSignificant } = await import('../latency/statistics.ts')
    const { measureLatency } = await import('../latency/measure.ts')
    const { profileOperators } = await import('../latency/operators.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    if (paths.includes('-')) throw usageError('mnc bench reads files, not standard input')
    for (const [flag, values, least] of [
      ['threads', options.threads, 0],
      ['batch', options.batch, 1],
    ] as const)
      for (const v of values)
        if (!Number.isInteger(v) || v < least || values.length === 0)
          throw usageError(`--${flag} ${values.join(',')}: ${v} is not a whole number of at least ${least}`)
    const candidates = []
    for (const file of paths) candidates.push({ file, model: await openModel(file, io) })
    recordSizes(
      candidates.map((c) => c.model),
      options,
    )
    const { executor } = await announceDevice(options.device, (line) => io.log(line))
    const progress = io.progress('bench', 1)
    const settings = await measureLatency(
      candidates,
      { threads: options.threads, batch: options.batch, seconds: options.seconds },
      {
        seed: io.seed,
        executor,
        onProgress: (done, total) => progress.update(done / total),
      },
    )
    progress.end()
    const profiles: Profiled[] = []
    if (options.profile)
      for (const { threads, batch } of settings)
        for (const c of candidates) {
          const at = { threads, batch, seed: io.seed }
          profiles.push({ file: c.file, threads, batch, ...(await profileOperators(c, executor, at)) })
        }
    const isNoise = ({ speedup }: Measured): boolean | null => speedup && !isSignificant(speedup)
    const shown = settings.map((s) => ({ ...s, models: s.models.map((m) => ({ ...m, withinNoise: isNoise(m) })) }))
    io.result({ device: executor.device, settings: shown, ...(options.profile && { profiles }) }, (width) =>
      [...shown.map((s) => describe(s, width)), ...profiles.map((p) => describeProfile(p, width))].join('\n\n'),
    )
  },
})

const ms = (t: number): string => t.toPrecision(3).replace(/e\+?(-?\d+)/, (_, e: string) => `e${e}`)

interface Shown extends Omit<Setting, 'models'> {
  readonly models: readonly (Measured & { readonly withinNoise: boolean | null })[]
}

const threadsOf = (n: number): string => (n === 0 ? 'all cores' : `${n} thread${n === 1 ? '' : 's'}`)

function describe({ threads, batch, models }: Shown, width: number): string {
  const rows = models.map((m) => [
    ...[m.file, m.batch === batch ? '' : `batch ${m.batch}`],
    ...[ms(m.latency.median), `${ms(m.latency.low)} to ${ms(m.latency.high)}`, m.throughput.toPrecision(4)],
    ...[
      m.speedup ? `${m.speedup.median.toFixed(2)}x` : '',
      m.speedup ? `${m.speedup.low.toFixed(2)} to ${m.speedup.high.toFixed(2)}` : '',
    ],
    ...[m.withinNoise ? 'within noise' : '', ms(m.loadMs), m.memory === null ? '-' : (m.memory / 2 ** 20).toFixed(1)],
  ])
  const head = ['', '', 'ms', '95 %', 'samples/s', 'speed', '95 %', '', 'load ms', 'MB']
  const title = `${threadsOf(threads)}, batch ${batch}`
  return `${title}\n${table([head, ...rows], 'llrrrrrlrr', width)}`
}

function describeProfile({ file, threads, batch, operators, nodes }: Profiled, width: number): string {
  const rows = (list: OperatorProfile['operators']): string[][] =>
    list.slice(0, SHOWN).map((o) => [o.name, String(o.nodes), ms(o.ms), percent(o.share)])
  const head = ['nodes', 'ms', 'share']
  return [
    `${file}, ${threadsOf(threads)}, batch ${batch}`,
    table([['operator', ...head], ...rows(operators)], 'lrrr', width),
    table([['node', ...head], ...rows(nodes)], 'lrrr', width),
  ].join('\n')
}
