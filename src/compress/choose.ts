/** Which of the points that a run made meets what was asked for; where none does, which comes nearest and by how much. */
import { points } from '../base/shares.ts'
import type { Goal } from './goal.ts'
import { showAmount } from './goal.ts'
import type { Judgement } from './panel.ts'
import type { Point } from './point.ts'

export interface Asked {
  readonly goal: Goal | null
  /** Accuracy that may be lost; null without labels, or where only the goal counts. */
  readonly maxDrop: number | null
  /** Of outputs; null with labels. */
  readonly minCosine: number | null
  /** Of the float file: what is larger is no gain where size is the target. */
  readonly mostBytes: number | null
}

export interface Verdict {
  readonly met: boolean
  /** What is missed and by how much, one sentence each. */
  readonly misses: readonly string[]
  /** 0 where nothing is missed; else the sum of what is, each as a share of what was asked for. */
  readonly distance: number
}

/** Counts of a few thousand samples are far coarser. */
const SLACK = 1e-9

export function verdictOf(point: Point, asked: Asked, judged: Judgement = point.held): Verdict {
  const misses: string[] = []
  let distance = 0
  const miss = (by: number, text: string): void => {
    misses.push(text)
    distance += Number.isFinite(by) ? Math.max(by, Number.EPSILON) : 1e9
  }
  const { goal, maxDrop, minCosine, mostBytes } = asked
  const amount = goal && point[goal.kind]
  if (goal && amount === null) miss(Number.POSITIVE_INFINITY, `its ${goal.kind} is not known`)
  else if (goal && amount! > goal.most)
    miss(amount! / goal.most - 1, `${showAmount(goal.kind, amount!)}, more than ${showAmount(goal.kind, goal.most)}`)
  const drop = judged.difference?.drop ?? null
  if (maxDrop !== null && (drop === null || drop > maxDrop + SLACK))
    miss(
      ((drop ?? 1) - maxDrop) / Math.max(maxDrop, 0.001),
      `${points(drop ?? 1)} of accuracy lost, more than ${points(maxDrop)}`,
    )
  if (minCosine !== null && !(judged.cosine >= minCosine))
    miss(
      (minCosine - judged.cosine) / Math.max(1 - minCosine, 1e-4),
      `cosine ${judged.cosine.toFixed(5)}, less than ${minCosine}`,
    )
  if (mostBytes !== null && point.bytes >= mostBytes)
    miss(
      point.bytes / mostBytes - 1,
      `${showAmount('bytes', point.bytes)}, no less than the ${showAmount('bytes', mostBytes)} of the float file`,
    )
  return { met: misses.length === 0, misses, distance }
}

/** Whether the outputs are as close to the float model's as is asked; a cosine of 0.999 where nothing is. */
export function isGood({ held }: Pick<Point, 'held'>, { maxDrop, minCosine }: Asked): boolean {
  const { difference } = held
  if (maxDrop !== null || difference) return difference !== null && difference.drop <= (maxDrop ?? 0.001) + SLACK
  return held.cosine >= (minCosine ?? 0.999)
}

/** Better for what is asked: with a goal the most accurate that meets it, else the smallest file that is accurate enough. */
export function chosenOf(made: readonly Point[], asked: Asked): Point | null {
  const better = (a: Point, b: Point): boolean => {
    const [va, vb] = [verdictOf(a, asked), verdictOf(b, asked)]
    if (va.met !== vb.met) return va.met
    if (!va.met) return va.distance < vb.distance
    if (asked.goal === null) return a.bytes < b.bytes
    return qualityOf(a) !== qualityOf(b) ? qualityOf(a) > qualityOf(b) : a.bytes < b.bytes
  }
  return made.reduce<Point | null>((best, p) => (best === null || better(p, best) ? p : best), null)
}

/** Accuracy, or the cosine of the outputs: what is to be high. */
export const qualityOf = ({ held }: Pick<Point, 'held'>): number => held.top1 ?? held.cosine

/** Points that no other one beats in both cost and quality, from cheap to dear. */
export function paretoOf(made: readonly Point[], costOf: (p: Point) => number = (p) => p.bytes): readonly Point[] {
  const sorted = [...made].sort((a, b) => costOf(a) - costOf(b) || qualityOf(b) - qualityOf(a))
  const front: Point[] = []
  for (const p of sorted) if (front.length === 0 || qualityOf(p) > qualityOf(front.at(-1)!)) front.push(p)
  return front
}
