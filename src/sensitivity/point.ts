/** One measurement of a scan. */
export const kinds = ['sparsity', 'weight-bits', 'activation-bits'] as const
export type Kind = (typeof kinds)[number]

export interface Point {
  readonly layer: string
  readonly kind: Kind
  readonly setting: number
  /** null where the pass left the layer alone. */
  readonly value: number | null
  /** Accuracy lost, loss gained, or the SQNR; null likewise. */
  readonly change: number | null
  /** Why the layer was left alone. */
  readonly reason?: string
}

export type Trial = Pick<Point, 'layer' | 'kind' | 'setting'>

export const keyOf = ({ layer, kind, setting }: Trial): string => JSON.stringify([layer, kind, setting])

/** `75 % zero`, `W 4 bit`, `A 4 bit`. */
export const nameOf = ({ kind, setting }: Pick<Trial, 'kind' | 'setting'>): string =>
  kind === 'sparsity' ? `${Number((setting * 100).toFixed(2))} % zero` : `${kind[0]!.toUpperCase()} ${setting} bit`

/** Points by the name of what was tried, in order. */
export function byName(points: readonly Point[]): Map<string, Point[]> {
  const groups = new Map<string, Point[]>()
  for (const p of points) groups.set(nameOf(p), [...(groups.get(nameOf(p)) ?? []), p])
  return groups
}
