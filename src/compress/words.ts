/** What was asked for and how a file was judged, in words. */
import { points } from '../base/shares.ts'
import type { Asked } from './choose.ts'
import { showAmount } from './goal.ts'
import type { Judgement } from './panel.ts'

const percent = (x: number): string => `${(x * 100).toFixed(2)} %`

/** `91.50 %, 0.2 points less than the float model (95 %: -0.1 to 0.5 points; 10,000 samples)`. */
export function judgedText(j: Judgement): string {
  const samples = `${j.samples.toLocaleString('en')} samples`
  if (!j.difference || j.top1 === null) return `cosine of the outputs ${j.cosine.toFixed(5)} on ${samples}`
  const { drop, low, high } = j.difference
  const how = drop > 0 ? `${points(drop)} less than` : drop < 0 ? `${points(-drop)} more than` : 'as'
  return `${percent(j.top1)}, ${how} the float model (drop with 95 % confidence ${points(low)} to ${points(high)}; ${samples})`
}

export function askedText({ asked, target }: { readonly asked: Asked; readonly target: string }): string {
  const parts = [
    ...(asked.goal ? [`at most ${showAmount(asked.goal.kind, asked.goal.most)}`] : []),
    ...(asked.maxDrop === null ? [] : [`at most ${points(asked.maxDrop)} of accuracy lost`]),
    ...(asked.minCosine === null ? [] : [`outputs within cosine ${asked.minCosine}`]),
    `target ${target}`,
  ]
  return parts.join(', ')
}
