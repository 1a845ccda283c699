/**
 * Per-layer settings out of a scan: for each layer the highest sparsity and the fewest bits that cost no more than the
 * tolerance; 0, which leaves the layer alone, where even the mildest setting tried costs more.
 */
import { tolerable } from './metric.ts'
import type { Kind, Point } from './point.ts'
import type { MetricName } from './sensitivity-options.ts'

/** Keys are options of prune and quantize without the dashes; values by layer. */
export type Settings = Readonly<Record<`layer-${Kind}`, Readonly<Record<string, number>>>>

export function proposedSettings(points: readonly Point[], metric: MetricName, tolerance: number): Settings {
  const of = (kind: Kind, stronger: (a: number, b: number) => number): Record<string, number> => {
    const best: Record<string, number> = {}
    for (const { layer, kind: k, setting, change } of points) {
      if (k !== kind || change === null) continue
      const now = best[layer] ?? 0
      best[layer] = tolerable(metric, change, tolerance) ? (now === 0 ? setting : stronger(now, setting)) : now
    }
    return best
  }
  return {
    'layer-sparsity': of('sparsity', Math.max),
    'layer-weight-bits': of('weight-bits', Math.min),
    'layer-activation-bits': of('activation-bits', Math.min),
  }
}
