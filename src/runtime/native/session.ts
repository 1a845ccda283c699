/** Sessions of onnxruntime with the operators of `step.mnc`, through the library of native kernels. */

import { bugError } from '../../base/errors.ts'
import type { Argument } from '../../base/foreign-library.ts'
import { Tensor } from '../../graph/tensor.ts'
import { byteLength, elementCount, elementTypeOf, elementTypes } from '../../graph/types.ts'
import type { LoadOptions, Session } from '../executor.ts'
import { engineError, newestProfile } from '../ort-session.ts'
import { engineThreads } from '../threads.ts'
import type { NativeKernels } from './library.ts'

/** GraphOptimizationLevel of onnxruntime's C API. */
const LEVELS = { disabled: 0, basic: 1, extended: 2, all: 99 } as const
/** OrtLoggingLevel. */
const [ERROR, FATAL] = [3, 4]
const MAX_RANK = 8

/** `inputs`, `outputs`: the names of those of the model. */
export function createNativeSession(
  { call, instructions }: NativeKernels,
  model: Uint8Array,
  { inputs, outputs }: { readonly inputs: readonly string[]; readonly outputs: readonly string[] },
  options: LoadOptions,
): Session {
  const must = (what: string, ...[name, ...args]: Parameters<typeof call>): Exclude<Argument, null> => {
    const result = call(name, ...args)
    if (result) return result
    throw engineError(new Error(String(call('mnc_error'))), what)
  }
  const create = (name: Parameters<typeof call>[0], ...args: readonly Argument[]) =>
    must('refuses the model', name, ...args)
  const o = create(
    'mnc_options',
    engineThreads(options.threads),
    LEVELS[options.optimization ?? 'all'],
    options.quiet ? FATAL : ERROR,
  )
  for (const [key, value] of Object.entries(options.config ?? {})) create('mnc_option', o, key, value)
  if (options.profilePrefix !== undefined) create('mnc_profile', o, options.profilePrefix)
  if (options.optimizedModelPath) create('mnc_optimized', o, options.optimizedModelPath)
  let session: Argument = create('mnc_session', model, model.length, o, inputs.length, outputs.length)

  const put = (name: 'mnc_feed' | 'mnc_fetch', value: string, t: Tensor): void => {
    const data = t.bytes
    const dims = BigInt64Array.from(t.dims, BigInt)
    must(
      `could not take '${value}'`,
      name,
      session,
      value,
      data,
      data.byteLength,
      elementTypes[t.type].code,
      dims,
      dims.length,
    )
  }
  const read = (i: number): Tensor => {
    const dims = new BigInt64Array(MAX_RANK)
    const code = Number(must('could not give an output', 'mnc_output', session, i, dims))
    const type = elementTypeOf(code >> 4)
    if (!type || elementTypes[type].bits < 8) throw bugError(`a step has an output of type ${code >> 4}`)
    const shape = Array.from(dims.subarray(0, code & 15), Number)
    const t = new Tensor(type, shape, new Uint8Array(byteLength(type, elementCount(shape))))
    if (t.byteLength > 0) must('could not give an output', 'mnc_read', session, i, t.bytes, t.byteLength)
    return t
  }
  return {
    inputNames: inputs,
    outputNames: outputs,
    fallbacks: [],
    native: instructions,
    async run(feeds, fetch = outputs, into = {}) {
      if (session === null) throw bugError('the session has been disposed of')
      // operators take what the engine hands them: it does not look for inputs that are not fed
      const missing = inputs.find((name) => !(name in feeds))
      if (missing !== undefined) throw engineError(`input '${missing}' is not fed`, 'could not run the model')
      // lets timers and signals in before a call that blocks the thread
      await new Promise((done) => setImmediate(done))
      try {
        for (const [name, t] of Object.entries(feeds)) put('mnc_feed', name, t)
        for (const name of fetch) {
          const target = into[name]
          if (target) put('mnc_fetch', name, target)
          else must(`has no output '${name}'`, 'mnc_fetch', session, name, null, 0, 0, null, 0)
        }
        must('could not run the model', 'mnc_run', session)
        return Object.fromEntries(fetch.map((name, i) => [name, into[name] ?? read(i)]))
      } finally {
        call('mnc_clear', session)
      }
    },
    runKept() {
      throw bugError('this session keeps no tensors on a device')
    },
    endProfiling() {
      if (options.profilePrefix === undefined) return undefined
      must('could not write its profile', 'mnc_end_profiling', session)
      return newestProfile(options.profilePrefix)
    },
    async dispose() {
      if (session !== null) call('mnc_release', session)
      session = null
    },
  }
}
