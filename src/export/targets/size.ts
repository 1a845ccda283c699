import { defineTarget } from './target.ts'

export const size = defineTarget({
  name: 'size',
  summary: 'the smallest file, with short names',
  pick: 'smallest',
  aim: 'bytes',
  quantised: true,
  readers: ['onnxruntime>=1.16', 'openvino>=2026.4', 'opencv>=5.0'],
  forms: [
    {
      options: { format: 'packed', shortNames: true, halfParameters: true },
      because: 'a mask and non-zeros in words of a prefix code take the fewest bytes',
    },
    {
      options: { format: 'int8', packedWeights: true, shortNames: true },
      because: 'it is smaller where quantisers of activations take fewer nodes than their arithmetic',
    },
    {
      options: { format: 'int4', shortNames: true },
      because: 'INT4 types take no nodes to decode them',
    },
  ],
})
