/** What a run will do, and about how long each part takes on this machine: by the time that the float model takes for a sample. */
import type { Effort } from '../ptq/ptq-options.ts'
import type { Candidate } from './candidate.ts'
import type { Found, PlannedStage } from './events.ts'
import { showTime } from './goal.ts'
import { ladderFor } from './ladder.ts'
import type { Run } from './run.ts'

/** Runs over the calibration samples that the passes of a quantising come to: ranges, moments of inputs, judging. */
const PASSES = 12
/** About as many steps does a quantising train for. */
const STEPS: Readonly<Record<Effort, number>> = { fast: 0, default: 200, best: 1000 }
/** Forward and backward of both networks, against one forward. */
const STEP = 5

export function planOf(run: Run, found: Found): readonly PlannedStage[] {
  const { o, panel, limit } = run
  const { effort, batch } = o
  const each = panel.secondsPerSample
  const ladder = ladderFor(run.target, run.asked, effort, run.widest)
  const seconds = (c: Candidate): number =>
    each * (PASSES * limit + STEP * STEPS[c.options.effort ?? effort] * Math.min(batch, limit) + 2 * found.samples.held)
  const firsts = ladder.map((rung) => rung[0]!)
  const total = firsts.reduce((sum, c) => sum + seconds(c), 0)
  const names = firsts.map((c) => c.name).join(', ')
  const time = o.time === undefined ? undefined : showTime(o.time)
  return [
    {
      stage: 'quantise',
      text: `quantise after training: ${names}`,
      seconds: total,
    },
    ...(asksForSplit(run)
      ? [
          {
            stage: 'layers' as const,
            text: 'where that is not enough: measure what each layer costs at each width, and split the bytes',
            seconds: null,
          },
        ]
      : []),
    ...(time === undefined
      ? []
      : [
          {
            stage: 'fine-tune' as const,
            text: `where that is not enough: fine-tune with the float model as teacher, for ${time} at most`,
            seconds: null,
          },
        ]),
    {
      stage: 'check',
      text: `measure the file on ${found.samples.test.toLocaleString('en')} test samples`,
      seconds: 3 * each * found.samples.test,
    },
  ]
}

const asksForSplit = ({ asked }: Run): boolean => asked.goal === null || asked.goal.kind === 'bytes'
