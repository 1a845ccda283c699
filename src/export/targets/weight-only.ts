import { defineTarget } from './target.ts'

export const weightOnly = defineTarget({
  name: 'weight-only',
  summary:
    'onnxruntime: products of matrices with weights of 2, 4 or 8 bits in blocks, for transformers; inputs in floats, or rounded where that is faster here',
  pick: 'fastest',
  aim: 'bytes',
  quantised: true,
  readers: ['onnxruntime>=1.30'],
  forms: [
    { options: { format: 'weight-only' }, because: 'MatMulNBits reads the integers as they are, in every product' },
    {
      options: { format: 'weight-only', roundInputs: true },
      because: 'products of integers are faster here, and cost 0.3 to 1 % of the largest output',
    },
  ],
})
