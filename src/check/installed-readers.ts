/**
 * Other programs that read ONNX files, where they are installed: the pythons that `MNC_READERS` names (paths, separated as
 * in PATH), with onnxruntime, openvino or cv2; and onnxruntime-web, from the working directory's packages or those around mnc.
 * Nothing of mnc needs them. A file is run in a process of its own; tensors go through files of raw numbers.
 */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { ReaderName } from '../analysis/readers.ts'
import { usageError } from '../base/errors.ts'
import { readFileBytes, temporaryFolder } from '../base/files.ts'
import { Tensor } from '../graph/tensor.ts'
import { type ElementType, elementTypes } from '../graph/types.ts'
import { PROBE, RUN_PYTHON, RUN_WEB } from './reader-programs.ts'

const run = promisify(execFile)

/** Seconds that starting a python, and that running a file there, may take. */
const SECONDS = { probe: 60, run: 300 } as const

/** Readers that run in a python; TensorRT has none. */
const inPython: readonly ReaderName[] = ['onnxruntime', 'openvino', 'opencv']

export interface InstalledReader {
  readonly reader: ReaderName
  readonly version: string
  /** What runs a file; the folder of its job comes behind. */
  readonly command: readonly [string, ...string[]]
  /** The module that the program imports. */
  readonly module?: string
}

/** A usage error for a path of MNC_READERS that is no python. */
export async function installedReaders(env: NodeJS.ProcessEnv = process.env): Promise<readonly InstalledReader[]> {
  const web = await webReader()
  return [...(await pythonReaders(env)), ...(web ? [web] : [])]
}

async function webReader(): Promise<InstalledReader | null> {
  for (const from of [join(process.cwd(), 'package.json'), import.meta.url]) {
    const module = resolved(from)
    if (module === null) continue
    const { version } = await packageAt(module)
    const command = [process.execPath, '--input-type=module', '-e', RUN_WEB] as const
    return { reader: 'onnxruntime-web', version, command, module: pathToFileURL(module).href }
  }
  return null
}

function resolved(from: string): string | null {
  try {
    return createRequire(from).resolve('onnxruntime-web')
  } catch {
    return null
  }
}

/** The package of a module in its folder `dist`. */
async function packageAt(module: string): Promise<{ readonly version: string }> {
  const text = await readFile(join(dirname(dirname(module)), 'package.json'), 'utf8')
  const version: unknown = Reflect.get(asObject(text) ?? {}, 'version')
  return { version: typeof version === 'string' ? version : '0' }
}

async function pythonReaders(env: NodeJS.ProcessEnv): Promise<readonly InstalledReader[]> {
  const found: InstalledReader[] = []
  for (const python of (env.MNC_READERS ?? '').split(delimiter).filter(Boolean)) {
    const versions = await probe(python)
    for (const reader of inPython) {
      const version: unknown = Reflect.get(versions, reader)
      const [number] = /^\d+(\.\d+)*/.exec(String(version)) ?? []
      if (number !== undefined) found.push({ reader, version: number, command: [python, '-c', RUN_PYTHON] })
    }
  }
  return found
}

async function probe(python: string): Promise<object> {
  try {
    const { stdout } = await run(python, ['-c', PROBE], { timeout: SECONDS.probe * 1000 })
    return asObject(lastLine(stdout)) ?? {}
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error)
    throw usageError(`MNC_READERS: ${python} is no python that runs: ${why}`, 'name the python of an environment')
  }
}

/** The first output of each run, as it reads the file; or why it does not. */
export async function runIn(
  { reader, command, module }: InstalledReader,
  model: string,
  runs: readonly Readonly<Record<string, Tensor>>[],
): Promise<{ readonly outputs: readonly Float32Array[] } | { readonly refusal: string }> {
  const folder = await temporaryFolder(join(tmpdir(), 'mnc-reader-'))
  try {
    const job = { reader, model, module, runs: [] as object[] }
    for (const [r, feeds] of runs.entries()) {
      const group: object[] = []
      for (const [i, [name, tensor]] of Object.entries(feeds).entries()) {
        const file = `in-${r}-${i}.raw`
        await writeFile(join(folder.path, file), tensor.bytes)
        group.push({ name, type: tensor.type, dims: tensor.dims, file })
      }
      job.runs.push(group)
    }
    await writeFile(join(folder.path, 'job.json'), JSON.stringify(job))
    const said = await outcome(command, folder.path)
    if (typeof said !== 'object') return { refusal: said }
    const outputs: Float32Array[] = []
    for (const [r, type] of typesIn(said).entries()) {
      const bytes = await readFileBytes(join(folder.path, `out-${r}.raw`))
      outputs.push(new Tensor(type, [(bytes.length * 8) / elementTypes[type].bits], bytes.slice()).toFloat32())
    }
    return { outputs }
  } finally {
    await folder.remove()
  }
}

/** What it printed; the reason where it failed. */
async function outcome([program, ...args]: InstalledReader['command'], folder: string): Promise<object | string> {
  try {
    const { stdout } = await run(program, [...args, folder], { timeout: SECONDS.run * 1000 })
    const said = asObject(lastLine(stdout))
    const error: unknown = said && Reflect.get(said, 'error')
    return typeof error === 'string' ? error.trim().replace(/\s+/g, ' ') : (said ?? 'it printed nothing')
  } catch (error) {
    return `its process ended: ${error instanceof Error ? error.message.split('\n').at(-1) || error.name : error}`
  }
}

function typesIn(said: object): ElementType[] {
  const types: unknown = Reflect.get(said, 'types')
  return Array.isArray(types) ? types.filter((t): t is ElementType => Object.hasOwn(elementTypes, String(t))) : []
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? ''

function asObject(text: string): object | null {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' ? json : null
  } catch {
    return null
  }
}
