import { defineTarget } from './target.ts'

export const web = defineTarget({
  name: 'web',
  summary: 'onnxruntime-web in a page, on WebAssembly or WebGPU: small, with short names',
  pick: 'smallest',
  aim: 'bytes',
  quantised: true,
  readers: ['onnxruntime-web>=1.30'],
  forms: [
    {
      options: { format: 'packed', shortNames: true, halfParameters: true },
      because: 'its decode is folded at load, and no DequantizeLinear is left, which WebGPU gets wrong there',
    },
  ],
})
