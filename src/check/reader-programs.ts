/**
 * What runs a file in another program: reads job.json of the folder in argv[1], writes out-N.raw of the first output of each run, and
 * prints a line of JSON, the element types of these files or the error.
 */

/** For a python: prints which readers it has. */
export const PROBE = `
import json
found = {}
for name, module in (('onnxruntime', 'onnxruntime'), ('openvino', 'openvino'), ('opencv', 'cv2')):
    try:
        found[name] = __import__(module).__version__
    except ImportError:
        pass
print(json.dumps(found))
`

/** For a python. */
export const RUN_PYTHON = `
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
    types = []
    for at, group in enumerate(job['runs']):
        out = np.asarray(call(inputs(group))).astype(np.float32)
        out.tofile(folder + '/out-%d.raw' % at)
        types.append('float32')
    print('\\n' + json.dumps({'types': types}))
except Exception as error:
    print('\\n' + json.dumps({'error': (str(error) or type(error).__name__)[:500]}))
`

/** For node: onnxruntime-web, on its WebAssembly, the module that job.json names. */
export const RUN_WEB = `
import { readFile, writeFile } from 'node:fs/promises'
const folder = process.argv[1]
const job = JSON.parse(await readFile(folder + '/job.json', 'utf8'))
const arrays = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
}
const feed = async ({ file, type, dims }) => {
  const bytes = new Uint8Array(await readFile(folder + '/' + file))
  return new ort.Tensor(type, new arrays[type](bytes.buffer, 0, bytes.length / arrays[type].BYTES_PER_ELEMENT), dims)
}
let ort
try {
  ort = (await import(job.module)).default
  ort.env.wasm.numThreads = 1
  ort.env.logLevel = 'error'
  const session = await ort.InferenceSession.create(job.model)
  const types = []
  for (const [at, group] of job.runs.entries()) {
    const feeds = {}
    for (const input of group) feeds[input.name] = await feed(input)
    const out = (await session.run(feeds))[session.outputNames[0]]
    await writeFile(folder + '/out-' + at + '.raw', new Uint8Array(out.data.buffer, out.data.byteOffset, out.data.byteLength))
    types.push(out.type)
  }
  console.log('\\n' + JSON.stringify({ types }))
} catch (error) {
  console.log('\\n' + JSON.stringify({ error: String(error.message ?? error).slice(0, 500) }))
}
`
