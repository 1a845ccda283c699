// Sound and a network: a quarter of a second at 8 kHz each, "speech" (a gliding tone with overtones that comes and goes in
// syllables, in noise) or noise alone; and three one-dimensional convolutions with random weights.
import { mkdirSync, writeFileSync } from 'node:fs'
import { Model, Tensor, writeModel } from 'mnc'

const RATE = 8000
const LENGTH = RATE / 4
const random = seeded(1)

for (const [split, count] of [
  ['train', 96],
  ['test', 32],
])
  for (const kind of ['noise', 'speech']) {
    const folder = `data/${split}/${kind}`
    mkdirSync(folder, { recursive: true })
    for (let i = 0; i < count; i++) writeFileSync(`${folder}/${i}.wav`, wav(kind === 'speech' ? speech() : noise(0.3)))
  }
await writeModel(network(), 'vad.onnx')

function noise(level) {
  return Float32Array.from({ length: LENGTH }, () => level * (random() + random() + random() - 1.5))
}

function speech() {
  const [pitch, glide, rate, phase] = [90 + 120 * random(), 30 * random(), 12 + 12 * random(), 6 * random()]
  return noise(0.1).map((x, t) => {
    const s = t / RATE
    const syllable = Math.max(0.1, Math.sin(rate * s + phase))
    let voice = 0
    for (let k = 1; k <= 8; k++) voice += Math.sin(2 * Math.PI * k * (pitch * s + glide * s * s)) / k
    return x + 0.25 * syllable * voice
  })
}

function network() {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  let x = graph.addInput('audio', { elem: 'float32', dims: ['N', 1, LENGTH] })
  for (const [i, [from, to, kernel, stride]] of [
    [1, 16, 32, 8],
    [16, 16, 8, 4],
    [16, 16, 8, 4],
  ].entries()) {
    const weight = b.initializer(`conv${i}.weight`, weights([to, from, kernel], from * kernel))
    const bias = b.initializer(`conv${i}.bias`, Tensor.float32([to], new Float32Array(to)))
    x = b.op('Conv', [x, weight, bias], { strides: [stride] }, { name: `conv${i}` })
    x = b.op('Relu', [x], {}, { name: `relu${i}` })
  }
  x = b.op('Flatten', [b.op('GlobalAveragePool', [x])])
  const type = { elem: 'float32', dims: ['N', 2] }
  const weight = b.initializer('fc.weight', weights([2, 16], 16))
  graph.addOutput(b.op('Gemm', [x, weight], { transB: 1 }, { name: 'scores', type }))
  return model
}

function weights(dims, inputs) {
  const size = dims.reduce((a, c) => a * c)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: size }, () => (random() * 2 - 1) * Math.sqrt(6 / inputs)),
  )
}

function wav(samples) {
  const header = Buffer.alloc(44)
  header.write('RIFF')
  header.writeUInt32LE(36 + 2 * samples.length, 4)
  header.write('WAVEfmt ', 8)
  header.writeUInt32LE(16, 16)
  header.writeUInt16LE(1, 20) // PCM
  header.writeUInt16LE(1, 22) // mono
  header.writeUInt32LE(RATE, 24)
  header.writeUInt32LE(2 * RATE, 28)
  header.writeUInt16LE(2, 32)
  header.writeUInt16LE(16, 34)
  header.write('data', 36)
  header.writeUInt32LE(2 * samples.length, 40)
  const pcm = Int16Array.from(samples, (x) => Math.max(-1, Math.min(1, x)) * 32767)
  return Buffer.concat([header, Buffer.from(pcm.buffer)])
}

function seeded(state) {
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
