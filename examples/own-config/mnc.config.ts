/** Code of this project's own, which commands in this folder and on models in it know: a pass, data, a loss, a metric, a target. */
import { defineConfig, defineDataset, defineLoss, defineMetric, defineNetwork, defineTarget, Tensor } from 'mnc'
import { clipWeights } from './clip-weights.ts'

const waves = defineDataset({
  name: 'waves',
  summary: 'sine waves of two frequencies with noise',
  open(_place: string, split: 'train' | 'test') {
    const n: number = split === 'train' ? 512 : 128
    let state: number = split === 'train' ? 1 : 2
    const random = (): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 32
    }
    const labels = Array.from({ length: n }, (_, i) => i % 2)
    const waves = labels.flatMap((label) => {
      const phase = 6 * random()
      return Array.from({ length: 64 }, (_, t) => Math.sin(t * (label ? 0.9 : 0.5) + phase) + random() - 0.5)
    })
    return { input: Tensor.float32([n, 1, 8, 8], waves), labels: Tensor.int64([n], labels) }
  },
})

const perceptron = defineNetwork({
  family: 'perceptron',
  summary: 'two linear layers',
  options: { width: { type: 'integer', minimum: 1, default: 32, description: 'Numbers between the layers' } },
  build({ width }, net) {
    const x = net.flatten(net.input({ channels: 1, size: 8 }), 'flat')
    return net.output(net.linear(net.relu(net.linear(x, 'fc1', width, 'fc1'), 'relu'), 'fc2', 2, 'logits'))
  },
})

const logCosh = defineLoss({
  name: 'log-cosh',
  summary: 'mean log cosh of the difference: squared where it is small, absolute where it is large',
  emit: (b, student, teacher) =>
    b.op('ReduceMean', [b.op('Log', [b.op('Cosh', [b.op('Sub', [student, teacher])])])], { keepdims: 0 }),
})

const mostWrong = defineMetric({
  name: 'most-wrong',
  summary: 'largest error of an output',
  better: 'lower',
  against: 'values',
  start() {
    let most = 0
    return {
      add({ got, want }) {
        for (let i = 0; i < got.length; i++) most = Math.max(most, Math.abs(got[i]! - want[i]!))
        return undefined
      },
      result: () => ({ value: most }),
    }
  },
})

const board = defineTarget({
  name: 'board',
  summary: 'the board on our desk',
  readers: ['onnxruntime>=1.24'],
  forms: [{ options: { format: 'int8', shortNames: true }, because: 'it multiplies bytes' }],
  pick: 'first',
  aim: 'bytes',
  quantised: true,
})

export default defineConfig({
  passes: [clipWeights],
  datasets: [waves],
  networks: [perceptron],
  losses: [logCosh],
  metrics: [mostWrong],
  targets: [board],
})
