// A table and a network: 12 measurements a row, two of which decide between three classes along curves; and a perceptron with
// random weights. The table is a numpy archive, as numpy.savez writes it.
import { writeFileSync } from 'node:fs'
import { Model, Tensor, writeModel } from 'mnc'

const COLUMNS = 12
const CLASSES = 3
const random = seeded(7)

const arrays = {}
for (const [split, rows] of [
  ['train', 1200],
  ['test', 400],
]) {
  const table = Float32Array.from({ length: rows * COLUMNS }, () => random() * 2 - 1)
  const labels = BigInt64Array.from({ length: rows }, (_, i) =>
    BigInt(classOf(table[i * COLUMNS], table[i * COLUMNS + 3])),
  )
  arrays[`${split}_features.npy`] = npy('<f4', [rows, COLUMNS], table)
  arrays[`${split}_labels.npy`] = npy('<i8', [rows], labels)
}
writeFileSync('table.npz', zip(arrays))
await writeModel(network(), 'net.onnx')

function classOf(a, b) {
  return a * a + b * b < 0.4 ? 0 : a > b ? 1 : 2
}

function network() {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  let x = graph.addInput('features', { elem: 'float32', dims: ['N', COLUMNS] })
  const sizes = [COLUMNS, 64, 64, CLASSES]
  for (let i = 0; i < 3; i++) {
    const [from, to] = [sizes[i], sizes[i + 1]]
    const drawn = Float32Array.from({ length: to * from }, () => (random() * 2 - 1) * Math.sqrt(6 / from))
    const weight = b.initializer(`fc${i}.weight`, Tensor.float32([to, from], drawn))
    const bias = b.initializer(`fc${i}.bias`, Tensor.float32([to], new Float32Array(to)))
    x = b.op('Gemm', [x, weight, bias], { transB: 1 }, { name: i < 2 ? `fc${i}` : 'scores' })
    if (i < 2) x = b.op('Relu', [x])
  }
  x.setType({ elem: 'float32', dims: ['N', CLASSES] })
  graph.addOutput(x)
  return model
}

function npy(type, shape, data) {
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`
  const header = Buffer.from(`${text.padEnd(117)}\n`)
  const magic = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0])
  return Buffer.concat([magic, header, Buffer.from(data.buffer)])
}

/** Files stored as they are. */
function zip(files) {
  const [parts, entries] = [[], []]
  let at = 0
  for (const [name, data] of Object.entries(files)) {
    const fields = Buffer.alloc(26)
    fields.writeUInt16LE(20, 0) // version
    fields.writeUInt32LE(crc32(data), 10)
    fields.writeUInt32LE(data.length, 14)
    fields.writeUInt32LE(data.length, 18)
    fields.writeUInt16LE(name.length, 22)
    parts.push(Buffer.from('PK\x03\x04'), fields, Buffer.from(name), data)
    const tail = Buffer.alloc(14)
    tail.writeUInt32LE(at, 10)
    entries.push(Buffer.from('PK\x01\x02'), Buffer.from([20, 0]), fields, tail, Buffer.from(name))
    at += 30 + name.length + data.length
  }
  const directory = Buffer.concat(entries)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(Object.keys(files).length, 4)
  end.writeUInt16LE(Object.keys(files).length, 6)
  end.writeUInt32LE(directory.length, 8)
  end.writeUInt32LE(at, 12)
  return Buffer.concat([...parts, directory, Buffer.from('PK\x05\x06'), end])
}

function crc32(data) {
  let crc = 0xffffffff
  for (const byte of data) {
    crc ^= byte
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return (crc ^ 0xffffffff) >>> 0
}

function seeded(state) {
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
