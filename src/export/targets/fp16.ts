import { defineTarget } from './target.ts'

export const fp16 = defineTarget({
  name: 'fp16',
  summary:
    'float16 inside, for devices that compute in it: half of the bytes; layers that overflow on samples stay in float32',
  pick: 'first',
  aim: 'latency',
  quantised: false,
  readers: ['onnxruntime>=1.16', 'openvino>=2026.4'],
  forms: [{ options: { format: 'float16' }, because: 'inputs and outputs are those of the float model' }],
})
