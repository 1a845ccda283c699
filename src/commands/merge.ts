/** `mnc merge`: joins the shares of a job that several machines did. */
import type { Whole } from '../shards/part.ts'
import { checkDivision } from './check.ts'
import { defineCommand, output } from './define-command.ts'
import { type Division, finishShares } from './divide.ts'
import { evalDivision } from './eval.ts'
import type { CommandIO } from './io.ts'
import { sensitivityDivision } from './sensitivity.ts'

interface Joined {
  readonly writesFile: boolean
  finish(whole: Whole, out: string | undefined, io: CommandIO): Promise<void>
}

const finishOf = <S, R, A>(division: Division<S, R, A>): Joined => ({
  writesFile: division.writesFile,
  finish: (whole, out, io) => finishShares(division, whole, out, io),
})

/** By command. */
const divisions: Readonly<Record<string, Joined>> = {
  eval: finishOf(evalDivision),
  check: finishOf(checkDivision),
  sensitivity: finishOf(sensitivityDivision),
}

export const merge = defineCommand({
  name: 'merge',
  summary: 'Join the shares that --shard wrote: the answer of a single run',
  arguments: [{ name: 'SHARE', description: 'Files of all shares, in any order', isList: true }],
  options: { output: { ...output, description: 'Output file, where the command writes one' } },
  examples: ['mnc eval net.onnx --data cifar10:DIR --shard 1/2', 'mnc merge net.eval.*.json'],
  async run(paths, { output: out }, io) {
    const { usageError } = await import('../base/errors.ts')
    const { joinParts } = await import('../shards/part.ts')
    const whole = await joinParts(paths)
    const { command } = whole
    const division = Object.hasOwn(divisions, command) ? divisions[command] : undefined
    if (!division) throw usageError(`there are no shares of '${command}'`)
    if (out !== undefined && !division.writesFile)
      throw usageError(`mnc ${command} writes no file`, 'leave out -o; --json prints a document')
    await division.finish(whole, out, io)
  },
})
