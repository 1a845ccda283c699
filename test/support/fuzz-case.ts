/** What must hold of any bytes given as a model. */
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { verifyModel } from '../../src/graph/verify.ts'

/** Longest time that a file may take, in milliseconds of the processor: a busy machine is not the file's fault. */
export const TIME_LIMIT = 2000

export interface CaseOutcome {
  /** `read`, or the code of the error. */
  readonly code: string
  readonly milliseconds: number
  /** What must not be; undefined where all is well. */
  readonly failure?: string
}

/** Reads, verifies and writes; what was written must read as what it was. */
export function tryMutant(bytes: Uint8Array, folder: string): CaseOutcome {
  const start = process.cpuUsage()
  const done = (code: string, failure?: string): CaseOutcome => {
    const { user, system } = process.cpuUsage(start)
    const milliseconds = (user + system) / 1000
    const slow = milliseconds > TIME_LIMIT ? `it took ${milliseconds.toFixed(0)} ms` : undefined
    const what = failure ?? slow
    return { code, milliseconds, ...(what !== undefined && { failure: what }) }
  }
  try {
    const model = decodeModel(bytes, { folder, file: 'mutant.onnx' })
    verifyModel(model)
    const once = encodeModel(model)
    const twice = encodeModel(decodeModel(once, { folder }))
    return Buffer.compare(once, twice) === 0 ? done('read') : done('read', 'written, read and written again it differs')
  } catch (error) {
    if (!(error instanceof MncError)) return done('crash', error instanceof Error ? error.stack : String(error))
    const text = error.describe()
    if (error.blame !== 'model') return done(error.code, `it is blamed on the ${error.blame}: ${text}`)
    if (text.includes('\n') || text.length > 1000)
      return done(error.code, `the message is not a line: ${text.slice(0, 2000)}`)
    return done(error.code)
  }
}
