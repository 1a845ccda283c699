/** What it would take: where the goal is missed, and where what was measured leaves a doubt. */
import { points, type Verdict } from './choose.ts'
import { samplesNeeded } from './paired.ts'
import type { Judgement } from './panel.ts'
import type { Run } from './run.ts'

export function adviceFor({ asked, o, samples, target }: Run, verdict: Verdict, test: Judgement): readonly string[] {
  const advice: string[] = []
  const { maxDrop } = asked
  const d = test.difference
  if (maxDrop !== null && d && d.drop <= maxDrop && d.high > maxDrop) {
    const needed = samplesNeeded(maxDrop - Math.max(0, d.drop), d.disagree)
    const count = Number.isFinite(needed)
      ? `about ${needed.toLocaleString('en')} samples would tell`
      : 'no number of samples would tell'
    advice.push(
      `with ${d.samples.toLocaleString('en')} test samples a drop of up to ${points(d.high)} is possible; ${count}`,
    )
  }
  if (verdict.met) return advice
  if (o.time === undefined && samples.training !== 'random') advice.push('give it time to fine-tune: --time 30m')
  else if (o.time !== undefined) advice.push('give it more time with --time')
  if (target === 'cpu' && asked.goal?.kind === 'bytes') advice.push('--target size makes smaller files')
  if (maxDrop !== null) advice.push('allow a larger --max-drop')
  return advice
}
