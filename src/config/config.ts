/**
 * What a user adds to mnc, as one object: the default export of `mnc.config.ts`. In use, it is in the same lists as what is
 * built in (base/registry.ts), so that commands, help, recipes and messages know it.
 */
import { MncError, usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'
import type { Registry } from '../base/registry.ts'
import { formatRegistry } from '../data/formats/index.ts'
import { type DatasetDef, formatOf } from '../data/formats/own.ts'
import type { MetricDef } from '../evaluate/metrics/define-metric.ts'
import { metricRegistry } from '../evaluate/metrics/index.ts'
import { checkTarget } from '../export/targets/check-target.ts'
import { targetRegistry } from '../export/targets/index.ts'
import type { TargetDef } from '../export/targets/target.ts'
import type { NetworkDef } from '../models/define-network.ts'
import { networkRegistry } from '../models/index.ts'
import type { PassDef } from '../pass-manager/define-pass.ts'
import { passRegistry } from '../passes/index.ts'
import { type LossDef, lossRegistry } from '../train/losses.ts'
import { guarded, type Owner } from './own-code.ts'

/** What `mnc.config.ts` exports, made by `defineConfig`. */
export interface Config {
  readonly passes?: readonly PassDef[]
  readonly datasets?: readonly DatasetDef[]
  readonly losses?: readonly LossDef[]
  readonly metrics?: readonly MetricDef[]
  readonly targets?: readonly TargetDef[]
  readonly networks?: readonly NetworkDef[]
}

/** What each kind needs besides a summary. */
const kinds = {
  passes: ['run'],
  datasets: ['open'],
  losses: ['emit'],
  metrics: ['start', 'against'],
  targets: ['forms', 'pick', 'aim', 'readers'],
  networks: ['build'],
} as const satisfies Record<keyof Config, readonly string[]>

/** Checks the types of a configuration; at run time it is the object itself. */
export const defineConfig = (config: Config): Config => config

/** Puts a configuration in place of the one in use. Usage errors name `file`. */
export function useConfig(config: Config, file?: string): void {
  try {
    check(config)
    const owner = (kind: string, name: string): Owner => ({ what: `${kind} '${name}'`, file })
    use(
      passRegistry,
      config.passes?.map((p) => ({ ...p, run: guarded(owner('pass', p.name), p.run.bind(p)) })),
    )
    use(
      formatRegistry,
      config.datasets?.map((d) => formatOf({ ...d, open: guarded(owner('data set', d.name), d.open.bind(d)) })),
    )
    use(
      lossRegistry,
      config.losses?.map((l) => ({ ...l, emit: guarded(owner('loss', l.name), l.emit.bind(l)) })),
    )
    use(
      metricRegistry,
      config.metrics?.map((m) => guardedMetric(m, owner('metric', m.name))),
    )
    for (const target of config.targets ?? []) checkTarget(target)
    use(targetRegistry, config.targets)
    use(
      networkRegistry,
      config.networks?.map((n) => ({ ...n, build: guarded(owner('network', n.family), n.build.bind(n)) })),
    )
  } catch (error) {
    throw error instanceof MncError && file !== undefined ? error.inFile(file) : error
  }
}

function guardedMetric(metric: MetricDef, owner: Owner): MetricDef {
  const start = guarded(owner, metric.start.bind(metric))
  return {
    ...metric,
    start(output) {
      const measuring = start(output)
      return {
        add: guarded(owner, measuring.add.bind(measuring)),
        result: guarded(owner, measuring.result.bind(measuring)),
      }
    },
  }
}

function use<T>(registry: Registry<T>, own: readonly T[] = []): void {
  registry.use(own)
}

/** A configuration in JavaScript has no types that were checked. */
function check(config: unknown): asserts config is Config {
  if (typeof config !== 'object' || config === null)
    throw usageError('a configuration is an object', 'export default defineConfig({ ... })')
  for (const [key, list] of Object.entries(config)) {
    const needed = Object.entries(kinds).find(([kind]) => kind === key)?.[1]
    if (!needed) {
      const near = nearest(key, Object.keys(kinds))
      throw usageError(
        `a configuration has no '${key}'${near ? `, did you mean '${near}'?` : ''}`,
        `it has ${Object.keys(kinds).join(', ')}`,
      )
    }
    if (!Array.isArray(list)) throw usageError(`'${key}' of a configuration must be an array`)
    for (const def of list as readonly unknown[]) {
      const lacking = [...needed, 'summary'].filter((k) => typeof def !== 'object' || def === null || !(k in def))
      if (lacking.length > 0) throw usageError(`one of '${key}' has no ${lacking.join(' and no ')}`)
    }
  }
}
