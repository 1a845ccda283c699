import { defineTarget } from './target.ts'

export const weightOnly = defineTarget({
  name: 'weight-only',
  summary:
    'onnxruntime: products of matrices with weights of 2, 4 or 8 bits in blocks and float inputs, for transformers',
  pick: 'first',
  aim: 'bytes',
  quantised: true,
  readers: ['onnxruntime>=1.30'],
  forms: [
    { options: { format: 'weight-only' }, because: 'MatMulNBits reads the integers as they are, in every product' },
  ],
})
