import { defineTarget } from './target.ts'

export const cpu = defineTarget({
  name: 'cpu',
  summary:
    "onnxruntime on this machine's processor: the fastest of its forms here, floats among them, measured at --threads and --batch",
  pick: 'fastest',
  aim: 'latency',
  quantised: true,
  readers: ['onnxruntime>=1.24'],
  forms: [
    { options: { format: 'int8', vnni: true }, because: 'its layers run in integer kernels' },
    { options: { format: 'int8' }, because: 'its layers run in integer kernels that are right on every processor' },
    {
      options: { format: 'int8', vnni: true, rowPairs: true },
      because: 'narrow convolutions fill the vector unit two rows at a time',
    },
    {
      options: { format: 'int8', vnni: true, mixed: true },
      because: 'layers on large images of few channels are quicker in floats, the others in integers',
    },
    {
      options: { format: 'packed', floatActivations: true },
      because: 'integer kernels gain nothing here: small weights, which become floats at load',
    },
    { options: { format: 'float' }, because: 'nothing else is as fast' },
  ],
})
