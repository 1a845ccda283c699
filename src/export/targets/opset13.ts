import { defineTarget } from './target.ts'

export const opset13 = defineTarget({
  name: 'opset13',
  summary: 'old and other readers: plain 8-bit Q/DQ pairs, a scale for each channel',
  pick: 'first',
  aim: 'latency',
  quantised: true,
  readers: ['onnxruntime>=1.16', 'openvino>=2026.4', 'opencv>=5.0'],
  forms: [{ options: { format: 'qdq' }, because: 'every reader with QuantizeLinear and DequantizeLinear takes it' }],
})
