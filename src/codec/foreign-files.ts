/** Models of other frameworks, told by their first bytes. */

interface Foreign {
  readonly what: string
  /** How it becomes ONNX. */
  readonly next: string
}

const PYTORCH = 'export it from PyTorch: torch.onnx.export(model, (example,), "model.onnx")'
const TENSORFLOW = 'convert it: python -m tf2onnx.convert'

const startsWith =
  (...bytes: readonly number[]) =>
  (head: Uint8Array): boolean =>
    bytes.every((b, i) => head[i] === b)

const known: readonly (readonly [(head: Uint8Array) => boolean, Foreign])[] = [
  [
    startsWith(0x50, 0x4b, 3, 4),
    { what: 'a ZIP archive, as PyTorch (.pt, .pth) and Keras (.keras) write', next: PYTORCH },
  ],
  // pickle, protocols 2 to 5
  [
    (head) => head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5,
    { what: 'a pickle, as older PyTorch writes', next: PYTORCH },
  ],
  [startsWith(0x89, 0x48, 0x44, 0x46), { what: 'HDF5, as Keras writes (.h5)', next: `${TENSORFLOW} --keras` }],
  [
    (head) => String.fromCharCode(...head.subarray(4, 8)) === 'TFL3',
    { what: 'a TensorFlow Lite model', next: `${TENSORFLOW} --tflite` },
  ],
  [
    (head) => String.fromCharCode(...head.subarray(4, 8)) === 'ORTM',
    { what: "a model in onnxruntime's own format (.ort)", next: 'give the ONNX model that it was made from' },
  ],
]

/** What a file is that is no ONNX model; null where that is unknown. `head`: its first 8 bytes or more. */
export const foreignFile = (head: Uint8Array): Foreign | null => known.find(([is]) => is(head))?.[1] ?? null
