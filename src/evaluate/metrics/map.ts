/**
 * Mean average precision of boxes, as COCO defines it (https://cocodataset.org/#detection-eval): the mean over classes and
 * over the overlaps 0.50, 0.55, ... 0.95 of the precision, interpolated at 101 recalls.
 *
 *   the model returns  [boxes, 6]: x1, y1, x2, y2, score, class; rows of a score of 0 or less do not count
 *   what is wanted     [boxes, 5]: x1, y1, x2, y2, class; rows of a negative class are padding
 *
 * Boxes of a class are taken by falling score; each takes the free one of its class that it overlaps most, if by enough.
 * Differs from COCO in that there are no areas, crowds, nor a limit of boxes per image.
 */
import { defineMetric } from './define-metric.ts'

const OVERLAPS = Array.from({ length: 10 }, (_, i) => 0.5 + 0.05 * i)
const RECALLS = Array.from({ length: 101 }, (_, i) => i / 100)

interface Found {
  readonly score: number
  /** By overlap: whether it is a box that is wanted. */
  readonly hits: readonly boolean[]
}

type Box = readonly [x1: number, y1: number, x2: number, y2: number]

export const meanAveragePrecision = defineMetric({
  name: 'map',
  summary: 'mean average precision of boxes [N, 6] (COCO: overlaps 0.5 to 0.95)',
  better: 'higher',
  against: 'values',
  start() {
    const found = new Map<number, Found[]>()
    const wanted = new Map<number, number>()
    return {
      add({ got, want }) {
        if (got.length % 6 > 0) return `the model returns ${got.length} numbers per sample, which are not boxes of 6`
        if (want.length % 5 > 0) return `${want.length} numbers are wanted per sample, which are not boxes of 5`
        const truth = rowsOf(want, 5).filter((r) => r[4]! >= 0)
        const boxes = rowsOf(got, 6).filter((r) => r[4]! > 0)
        for (const r of truth) wanted.set(r[4]!, (wanted.get(r[4]!) ?? 0) + 1)
        for (const c of new Set(boxes.map((r) => r[5]!))) {
          const own = boxes.filter((r) => r[5] === c).sort((a, b) => b[4]! - a[4]!)
          const list = found.get(c) ?? []
          list.push(
            ...matched(
              own,
              truth.filter((r) => r[4] === c),
            ),
          )
          found.set(c, list)
        }
        return undefined
      },
      result() {
        const classes = [...wanted.keys()].sort((a, b) => a - b)
        const byOverlap = (k: number): number =>
          mean(classes.map((c) => averagePrecision(found.get(c) ?? [], wanted.get(c)!, k)))
        const perClass = classes.map((c) => ({
          class: c,
          boxes: wanted.get(c)!,
          ap: mean(OVERLAPS.map((_, k) => averagePrecision(found.get(c) ?? [], wanted.get(c)!, k))),
        }))
        return {
          value: mean(OVERLAPS.map((_, k) => byOverlap(k))),
          details: { ap50: byOverlap(0), ap75: byOverlap(5), classes: perClass },
          table: [
            ['class', 'boxes', 'AP'],
            ...perClass.map((c) => [String(c.class), String(c.boxes), c.ap.toFixed(4)]),
          ],
        }
      },
    }
  },
})

const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length)

const rowsOf = (values: ArrayLike<number>, width: number): number[][] =>
  Array.from({ length: values.length / width }, (_, i) =>
    Array.from({ length: width }, (_, k) => values[i * width + k]!),
  )

function matched(boxes: readonly (readonly number[])[], truth: readonly (readonly number[])[]): Found[] {
  const taken = OVERLAPS.map(() => new Set<number>())
  return boxes.map((box) => {
    const overlaps = truth.map((t) => overlap(boxOf(box), boxOf(t)))
    const hits = OVERLAPS.map((least, k) => {
      let best = -1
      for (const [i, o] of overlaps.entries())
        if (o >= least && !taken[k]!.has(i) && (best < 0 || o > overlaps[best]!)) best = i
      if (best >= 0) taken[k]!.add(best)
      return best >= 0
    })
    return { score: box[4]!, hits }
  })
}

const boxOf = ([a, b, c, d]: readonly number[]): Box => [a!, b!, c!, d!]

/** Intersection over union. */
function overlap(a: Box, b: Box): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0])
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1])
  const both = Math.max(0, width) * Math.max(0, height)
  const area = (x: Box): number => (x[2] - x[0]) * (x[3] - x[1])
  const union = area(a) + area(b) - both
  return union <= 0 ? 0 : both / union
}

/** Of each recall the best precision at that recall or more. */
function averagePrecision(found: readonly Found[], wanted: number, k: number): number {
  const sorted = [...found].sort((a, b) => b.score - a.score)
  const curve: { recall: number; precision: number }[] = []
  let right = 0
  for (const [i, { hits }] of sorted.entries()) {
    if (hits[k]) right++
    curve.push({ recall: right / wanted, precision: right / (i + 1) })
  }
  for (let i = curve.length - 2; i >= 0; i--)
    curve[i]!.precision = Math.max(curve[i]!.precision, curve[i + 1]!.precision)
  return mean(RECALLS.map((r) => curve.find((p) => p.recall >= r)?.precision ?? 0))
}
