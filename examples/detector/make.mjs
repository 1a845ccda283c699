// Pictures and a detector: bright squares of 6 or 10 pixels on a dim ground, 32 by 32; and a network that finds them, with weights
// that are set rather than trained. It ends in boxes, rows of x1, y1, x2, y2, score, class, as `mnc eval --metric map` reads them.
import { mkdirSync, writeFileSync } from 'node:fs'
import { Model, Tensor, writeModel } from 'mnc'

const SIZE = 32
const SIDES = [6, 10]
const MOST = 4 // boxes in a picture
const random = seeded(5)
const draw = (n) => Math.floor(n * random())

for (const [split, count] of [
  ['train', 64],
  ['test', 32],
]) {
  mkdirSync(`data/${split}`, { recursive: true })
  const made = Array.from({ length: count }, picture)
  const images = Float32Array.from(made.flatMap((p) => [...p.pixels]))
  writeFileSync(`data/${split}/image.npy`, npy([count, 1, SIZE, SIZE], images))
  const boxes = Float32Array.from(made.flatMap((p) => p.boxes.flat()))
  writeFileSync(`data/${split}/boxes.npy`, npy([count, MOST, 5], boxes))
}
await writeModel(network(), 'detector.onnx')

/** Wanted boxes are x1, y1, x2, y2, class; those that are not there have the class -1. */
function picture() {
  const pixels = Float32Array.from({ length: SIZE * SIZE }, () => 0.6 * random())
  const boxes = []
  for (const [qy, qx] of [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ]) {
    if (random() < 0.4) continue
    const kind = draw(2)
    const side = SIDES[kind]
    const [x, y] = [qx * 16 + 1 + draw(14 - side), qy * 16 + 1 + draw(14 - side)]
    for (let j = y; j < y + side; j++) for (let i = x; i < x + side; i++) pixels[j * SIZE + i] += 0.8
    boxes.push([x, y, x + side, y + side, kind])
  }
  while (boxes.length < MOST) boxes.push([0, 0, 0, 0, -1])
  return { pixels, boxes }
}

/**
 * Per size a filter that answers most where a square lies: its inside counts for it, a rim of one pixel around it against it.
 * A cell is a box where it answers more than its neighbours and than half of what a square gives.
 */
function network() {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const image = graph.addInput('image', { elem: 'float32', dims: ['N', 1, SIZE, SIZE] })
  const kernel = 13
  const filters = SIDES.flatMap((side) => {
    const from = (kernel - 1) / 2 - side / 2
    const inside = (k, grow) => k >= from - grow && k < from + side + grow
    return Array.from({ length: kernel * kernel }, (_, k) => {
      const [i, j] = [k % kernel, Math.floor(k / kernel)]
      if (inside(i, 0) && inside(j, 0)) return 1 / side ** 2
      return inside(i, 1) && inside(j, 1) ? -1 / (4 * side + 4) : 0
    })
  })
  const weight = b.initializer('find.weight', Tensor.float32([2, 1, kernel, kernel], filters))
  const bias = b.initializer('find.bias', Tensor.float32([2], [-0.4, -0.4]))
  let heat = b.op('Conv', [image, weight, bias], { pads: [6, 6, 6, 6] }, { name: 'find' })
  heat = b.op('Relu', [heat])
  const around = b.op('MaxPool', [heat], { kernel_shape: [9, 9], pads: [4, 4, 4, 4], strides: [1, 1] })
  const peak = b.op('Cast', [b.op('Equal', [heat, around])], { to: 1 })
  const flat = b.op('Reshape', [b.op('Mul', [heat, peak]), b.ints([0, -1])])
  const [score, index] = b.ops('TopK', [flat, b.ints([2 * MOST])], 2, { axis: 1 })
  const at = b.op('Cast', [index], { to: 1 })
  const floorDiv = (v, by) => b.op('Floor', [b.op('Div', [v, b.scalar(by)])])
  const kind = floorDiv(at, SIZE * SIZE)
  const cell = b.op('Sub', [at, b.op('Mul', [kind, b.scalar(SIZE * SIZE)])])
  const y = floorDiv(cell, SIZE)
  const x = b.op('Sub', [cell, b.op('Mul', [y, b.scalar(SIZE)])])
  const half = b.op('Add', [b.op('Mul', [kind, b.scalar((SIDES[1] - SIDES[0]) / 2)]), b.scalar(SIDES[0] / 2)])
  const edges = [
    ['Sub', x],
    ['Sub', y],
    ['Add', x],
    ['Add', y],
  ].map(([op, v]) => b.op(op, [v, half]))
  const columns = [...edges, score, kind].map((v) => b.op('Unsqueeze', [v, b.ints([2])]))
  const type = { elem: 'float32', dims: ['N', 2 * MOST, 6] }
  graph.addOutput(b.op('Concat', columns, { axis: 2 }, { name: 'boxes', type }))
  return model
}

function npy(shape, data) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`
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
