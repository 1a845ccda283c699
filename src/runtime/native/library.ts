/**
 * The library of native kernels (native/, `make native`): operators of the domain `step.mnc` for training steps, and sessions
 * that have them, on the onnxruntime that its binding for Node.js brings. It is optional: where it, koffi or a matching
 * onnxruntime is missing, steps run on standard operators alone.
 *
 * Looked for at MNC_NATIVE, then in the package mnc-kernels-<platform>-<arch>, then where `make native` puts it.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { usageError } from '../../base/errors.ts'
import { type Argument, foreignLibraries } from '../../base/foreign-library.ts'
import { packageFile } from '../../base/package-files.ts'
import { engineLibrary, engineVersion, loadEngine } from '../ort-session.ts'

const FILE = 'mnc-step.so'

/** The functions of native/session.c: result, arguments. */
const FUNCTIONS = {
  mnc_error: ['str', []],
  mnc_open: ['str', ['str', 'str']],
  mnc_options: ['void *', ['int', 'int', 'int']],
  mnc_option: ['int', ['void *', 'str', 'str']],
  mnc_profile: ['int', ['void *', 'str']],
  mnc_optimized: ['int', ['void *', 'str']],
  mnc_session: ['void *', ['void *', 'size_t', 'void *', 'size_t', 'size_t']],
  mnc_feed: ['int', ['void *', 'str', 'void *', 'size_t', 'int', 'void *', 'size_t']],
  mnc_fetch: ['int', ['void *', 'str', 'void *', 'size_t', 'int', 'void *', 'size_t']],
  mnc_run: ['int', ['void *']],
  mnc_output: ['int', ['void *', 'size_t', 'void *']],
  mnc_read: ['int', ['void *', 'size_t', 'void *', 'size_t']],
  mnc_clear: ['void', ['void *']],
  mnc_end_profiling: ['int', ['void *']],
  mnc_release: ['void', ['void *']],
} as const

export interface NativeKernels {
  /** The instruction set that they use. */
  readonly instructions: string
  call(name: keyof typeof FUNCTIONS, ...args: readonly Argument[]): Argument
}

/** The kernels, or why there are none. */
export type Found = NativeKernels | { readonly missing: string }

let found: Promise<Found> | undefined

/** Opens the library on first use. MNC_NATIVE=0: none. */
export function nativeKernels(): Promise<Found> {
  found ??= find()
  return found
}

async function find(): Promise<Found> {
  const named = process.env.MNC_NATIVE
  if (named === '0') return { missing: 'MNC_NATIVE is 0' }
  const path = named || (packaged() ?? built())
  if (!path) return { missing: 'they are not installed' }
  try {
    return await open(path)
  } catch (error) {
    const missing = error instanceof Error ? error.message.split('\n')[0]! : String(error)
    // asked for by name, they are wanted
    if (named) throw usageError(`MNC_NATIVE=${named}: ${missing}`, 'unset MNC_NATIVE, or set it to 0')
    return { missing }
  }
}

async function open(path: string): Promise<NativeKernels> {
  await loadEngine()
  const engine = engineLibrary()
  if (!engine) throw usageError(`onnxruntime's library is not known on ${process.platform}`)
  const library = (await foreignLibraries())(path)
  const functions = new Map(
    Object.entries(FUNCTIONS).map(([name, [result, parameters]]) => [name, library.func(name, result, parameters)]),
  )
  const call: NativeKernels['call'] = (name, ...args) => functions.get(name)!(...args)
  const instructions = call('mnc_open', engine, await engineVersion())
  if (typeof instructions !== 'string') throw usageError(`${path}: ${call('mnc_error')}`)
  return { instructions, call }
}

function packaged(): string | null {
  try {
    const name = `mnc-kernels-${process.platform}-${process.arch}`
    return createRequire(import.meta.url).resolve(`${name}/${FILE}`)
  } catch {
    return null
  }
}

function built(): string | null {
  const path = join(packageFile('build/native'), FILE)
  return existsSync(path) ? path : null
}
