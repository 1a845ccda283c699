import { defineTarget } from './target.ts'

export const tensorrt = defineTarget({
  name: 'tensorrt',
  summary: 'TensorRT: explicit symmetric Q/DQ pairs, int8 without zero points, float biases',
  pick: 'first',
  aim: 'latency',
  quantised: true,
  readers: ['tensorrt>=8.6'],
  forms: [
    {
      options: { format: 'qdq', symmetric: true },
      because: 'its builder takes int8 with zero point 0 and positive scales alone, one scale a tensor for activations',
    },
  ],
})
