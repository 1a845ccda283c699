// Words and a network: is a word of made-up language one or two? Twelve letters each, as numbers; and an embedding, a convolution
// over the letters and a linear layer with random weights. Arrays are numpy files.
import { mkdirSync, writeFileSync } from 'node:fs'
import { Model, Tensor, writeModel } from 'mnc'

const LETTERS = 27 // 0 fills words up
const LENGTH = 12
const random = seeded(3)
const pick = (list) => list[Math.floor(random() * list.length)]

const syllables = [
  ['ka', 'lo', 'mi', 'tu', 'ne', 'sa', 'ri', 'po'],
  ['stra', 'ent', 'isch', 'ung', 'kro', 'pfa', 'ler', 'dno'],
]

for (const [split, count] of [
  ['train', 800],
  ['test', 200],
]) {
  mkdirSync(`data/${split}`, { recursive: true })
  const labels = BigInt64Array.from({ length: count }, (_, i) => BigInt(i % 2))
  const tokens = BigInt64Array.from([...labels].flatMap((label) => numbersOf(word(Number(label)))))
  writeFileSync(`data/${split}/tokens.npy`, npy([count, LENGTH], tokens))
  writeFileSync(`data/${split}/labels.npy`, npy([count], labels))
}
await writeModel(network(), 'language.onnx')

/** Now and then with a syllable of the other language. */
function word(language) {
  let text = ''
  while (text.length < 5 + 5 * random()) text += pick(syllables[random() < 0.15 ? 1 - language : language])
  return text.slice(0, LENGTH)
}

function numbersOf(text) {
  return Array.from({ length: LENGTH }, (_, i) => BigInt(i < text.length ? text.charCodeAt(i) - 96 : 0))
}

function network() {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const tokens = graph.addInput('tokens', { elem: 'int64', dims: ['N', LENGTH] })
  const table = b.initializer('embedding', weights([LETTERS, 16], 4))
  let x = b.op('Gather', [table, tokens], {}, { name: 'embed' })
  x = b.op('Transpose', [x], { perm: [0, 2, 1] })
  x = b.op('Conv', [x, b.initializer('conv.weight', weights([32, 16, 3], 48))], { pads: [1, 1] }, { name: 'conv' })
  x = b.op('Relu', [x])
  x = b.op('Flatten', [b.op('GlobalMaxPool', [x])])
  const type = { elem: 'float32', dims: ['N', 2] }
  const weight = b.initializer('fc.weight', weights([2, 32], 32))
  graph.addOutput(b.op('Gemm', [x, weight], { transB: 1 }, { name: 'scores', type }))
  return model
}

function weights(dims, inputs) {
  const size = dims.reduce((a, c) => a * c)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: size }, () => (random() * 2 - 1) * Math.sqrt(3 / inputs)),
  )
}

function npy(shape, data) {
  const text = `{'descr': '<i8', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`
  const header = Buffer.from(`${text.padEnd(117)}\n`)
  const magic = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0])
  return Buffer.concat([magic, header, Buffer.from(data.buffer)])
}

function seeded(state) {
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
