/**
 * Other programs that read ONNX files, where they are installed: the pythons that `MNC_READERS` names (paths, separated as
 * in PATH), with onnxruntime, openvino or cv2. Nothing of mnc needs them. A file is run in a process of its own; tensors go
 * through files of raw numbers.
 */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import type { ReaderName } from '../analysis/readers.ts'
import { usageError } from '../base/errors.ts'
import { readFileBytes, temporaryFolder } from '../base/files.ts'
import type { Tensor } from '../graph/tensor.ts'

const run = promisify(execFile)

/** Seconds that starting a python, and that running a file there, may take. */
const SECONDS = { probe: 60, run: 300 } as const

const PROBE = `
import json
found = {}
for name, module in (('onnxruntime', 'onnxruntime'), ('openvino', 'openvino'), ('opencv', 'cv2')):
    try:
        found[name] = __import__(module).__version__
    except ImportError:
        pass
print(json.dumps(found))
`

/** Reads job.json of the folder in argv[1], writes out-N.f32 of the first output of each run; prints the shapes, or the error. */
const RUN = `
import json, sys
import numpy as np
folder = sys.argv[1]
job = json.load(open(folder + '/job.json'))
def inputs(group):
    return {i['name']: np.fromfile(folder + '/' + i['file'], dtype=i['type']).reshape(i['dims']) for i in group}
try:
    if job['reader'] == 'onnxruntime':
        import onnxruntime
        session = onnxruntime.InferenceSession(job['model'], providers=['CPUExecutionProvider'])
        call = lambda x: session.run(None, x)[0]
    elif job['reader'] == 'openvino':
        import openvino
        compiled = openvino.Core().compile_model(job['model'], 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        call = lambda x: compiled(x)[compiled.output(0)]
    else:
        import cv2
        net = cv2.dnn.readNetFromONNX(job['model'])
        def call(x):
            for name, value in x.items():
                net.setInput(value, name)
            return net.forward()
    shapes = []
    for at, group in enumerate(job['runs']):
        out = np.asarray(call(inputs(group))).astype(np.float32)
        out.tofile(folder + '/out-%d.f32' % at)
        shapes.append(list(out.shape))
    print('\\n' + json.dumps({'shapes': shapes}))
except Exception as error:
    print('\\n' + json.dumps({'error': (str(error) or type(error).__name__)[:500]}))
`

/** Readers that run here; TensorRT has none. */
const runnable: readonly ReaderName[] = ['onnxruntime', 'openvino', 'opencv']

export interface PythonReader {
  readonly reader: ReaderName
  readonly version: string
  readonly python: string
}

/** Those of MNC_READERS. A usage error for a path that is no python. */
export async function pythonReaders(env: NodeJS.ProcessEnv = process.env): Promise<readonly PythonReader[]> {
  const found: PythonReader[] = []
  for (const python of (env.MNC_READERS ?? '').split(delimiter).filter(Boolean)) {
    const versions = await probe(python)
    for (const reader of runnable) {
      const version: unknown = Reflect.get(versions, reader)
      const [number] = /^\d+(\.\d+)*/.exec(String(version)) ?? []
      if (number !== undefined) found.push({ reader, version: number, python })
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
export async function runInPython(
  { reader, python }: PythonReader,
  model: string,
  runs: readonly Readonly<Record<string, Tensor>>[],
): Promise<{ readonly outputs: readonly Float32Array[] } | { readonly refusal: string }> {
  const folder = await temporaryFolder(join(tmpdir(), 'mnc-reader-'))
  try {
    const job = { reader, model, runs: [] as object[] }
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
    const said = await outcome(python, folder.path)
    if (typeof said !== 'object') return { refusal: said }
    const outputs: Float32Array[] = []
    for (const r of runs.keys()) {
      const bytes = await readFileBytes(join(folder.path, `out-${r}.f32`))
      outputs.push(new Float32Array(bytes.slice().buffer))
    }
    return { outputs }
  } finally {
    await folder.remove()
  }
}

/** What it printed; the reason where it failed. */
async function outcome(python: string, folder: string): Promise<object | string> {
  try {
    const { stdout } = await run(python, ['-c', RUN, folder], { timeout: SECONDS.run * 1000 })
    const said = asObject(lastLine(stdout))
    const error: unknown = said && Reflect.get(said, 'error')
    return typeof error === 'string' ? error.trim().replace(/\s+/g, ' ') : (said ?? 'it printed nothing')
  } catch (error) {
    return `its process ended: ${error instanceof Error ? error.message.split('\n').at(-1) || error.name : error}`
  }
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
