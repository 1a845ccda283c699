import { defineTarget } from './target.ts'

export const openvino = defineTarget({
  name: 'openvino',
  summary: 'OpenVINO: 8-bit Q/DQ pairs on both inputs of a layer, which its runtime fuses',
  pick: 'first',
  aim: 'latency',
  quantised: true,
  readers: ['openvino>=2026.4'],
  forms: [
    {
      options: { format: 'qdq' },
      because: 'its low-precision passes take pairs right before the inputs of a layer, uint8 or int8',
    },
  ],
})
