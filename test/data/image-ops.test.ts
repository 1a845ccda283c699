// Every operation against the Python Imaging Library's output (bench/pil/fixtures.py), to the byte.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Canvas } from '../../src/data/canvas.ts'
import { affine, type Matrix, rotation, shearing, translation } from '../../src/data/geometry.ts'
import * as ops from '../../src/data/image-ops.ts'

interface Fixtures {
  fill: number[]
  inputs: Record<string, { channels: number; height: number; width: number; planes: string }>
  cases: [input: string, op: string, magnitude: number, digest: string][]
}
const path = 'test/data/fixtures/pil.json'
const text = readFileSync(path, 'utf8')
const { fill, inputs, cases } = JSON.parse(text) as Fixtures

const pixelOps: Record<string, (canvas: Canvas, magnitude: number) => void> = {
  ...{ invert: ops.invert, 'auto-contrast': ops.autoContrast, equalize: ops.equalize, solarize: ops.solarize },
  ...{ posterize: ops.posterize, contrast: ops.contrast, color: ops.color },
  ...{ brightness: ops.brightness, sharpness: ops.sharpness },
}
const moves: Record<string, (m: number, canvas: Canvas) => Matrix> = {
  rotate: (m, { height, width }) => rotation(m, height, width),
  'shear-x': (m) => shearing(m, 0),
  'shear-y': (m) => shearing(0, m),
  'translate-x': (m) => translation(m, 0),
  'translate-y': (m) => translation(0, m),
}

function load(name: string): Canvas {
  const input = inputs[name]!
  const canvas = new Canvas(input, fill.slice(0, input.channels))
  canvas.load(Buffer.from(input.planes, 'base64'), 0)
  return canvas
}
const digest = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest('hex').slice(0, 24)

for (const op of [...Object.keys(pixelOps), ...Object.keys(moves)])
  test(`${op} equals PIL's`, () => {
    const own = cases.filter((c) => c[1] === op)
    assert.ok(own.length >= 7)
    for (const [input, , magnitude, expected] of own) {
      const canvas = load(input)
      const move = moves[op]
      if (move) affine(canvas, move(magnitude, canvas), new Int32Array(canvas.plane))
      else pixelOps[op]!(canvas, magnitude)
      const actual = move ? digest(canvas.pixels, canvas.mask) : digest(canvas.pixels)
      assert.equal(actual, expected, `${input} ${op} ${magnitude}`)
    }
  })

test('exposed pixels stay marked through a second move and a later point operation', () => {
  const canvas = load('rgb-wave')
  const map = new Int32Array(canvas.plane)
  affine(canvas, translation(4, 0), map) // the right four columns are exposed
  ops.invert(canvas)
  affine(canvas, translation(-4, 2), map) // back by four: exposed on the left, and in the last two rows
  const exposed = (y: number, x: number) => canvas.mask[y * 32 + x] === 1
  assert.deepEqual(
    [exposed(0, 3), exposed(0, 4), exposed(0, 31), exposed(29, 4), exposed(30, 4)],
    [true, false, false, false, true],
  )
})

test('the fixtures are what the installed PIL makes', (t) => {
  try {
    execFileSync('/usr/bin/python3', ['-c', 'import PIL'], { stdio: 'ignore' })
  } catch {
    t.skip("Debian's python3-pil is not installed")
    return
  }
  const fresh: unknown = JSON.parse(execFileSync('/usr/bin/python3', ['bench/pil/fixtures.py'], { encoding: 'utf8' }))
  assert.ok(JSON.stringify(fresh) === JSON.stringify(JSON.parse(text)), 'run bench/pil/fixtures.py again')
})
