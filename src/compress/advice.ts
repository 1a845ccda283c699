/** What it would take: where the goal is missed, and where what was measured leaves a doubt. */
import { points } from '../base/shares.ts'
import { samplesToTell } from '../evaluate/paired.ts'
import type { Verdict } from './choose.ts'
import type { Judgement } from './panel.ts'
import type { Point } from './point.ts'
import type { Run } from './run.ts'

const ms = (x: number): string => `${Number(x.toPrecision(3))} ms`

/** What whoever uses the file should know. `float`: milliseconds of the float model. */
export function notesOf(
  { asked, target }: Run,
  point: Point,
  float: number | null,
  test: Judgement,
): readonly string[] {
  const notes: string[] = []
  if (target.aim === 'latency' && point.latency !== null && float !== null && point.latency > float)
    notes.push(
      `on one thread of this machine the file takes ${ms(point.latency)} and the float model ${ms(float)}; mnc bench measures longer, and mnc export --explain says which layers stay float`,
    )
  const { maxDrop } = asked
  const d = test.difference
  if (maxDrop !== null && d && d.drop <= maxDrop && d.high > maxDrop) {
    const needed = samplesToTell(maxDrop, d)
    const count = Number.isFinite(needed)
      ? `about ${needed.toLocaleString('en')} samples would tell`
      : 'no number of samples would tell'
    notes.push(
      `with ${d.samples.toLocaleString('en')} test samples a drop of up to ${points(d.high)} is possible; ${count}`,
    )
  }
  return notes
}

/** What it would take where what was asked for is missed. */
export function adviceFor({ asked, o, samples, target }: Run, verdict: Verdict): readonly string[] {
  if (verdict.met) return []
  const advice: string[] = []
  if (o.time === undefined && samples.training !== 'random') advice.push('give it time to fine-tune: --time 30m')
  else if (o.time !== undefined) advice.push('give it more time with --time')
  if (target.aim === 'latency' && asked.goal?.kind === 'bytes') advice.push('--target size makes smaller files')
  if (asked.maxDrop !== null) advice.push('allow a larger --max-drop')
  return advice
}
