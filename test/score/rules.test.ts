import assert from 'node:assert/strict'
import { test } from 'node:test'
import { scoreOf } from '../../src/score/report.ts'
import { adderTree, storedBits, weightOf } from '../../src/score/rules.ts'

const axes = { output: 0, input: 1 }

test('a multiplication weighs as its widest operand', () => {
  assert.equal(weightOf(3, 5), 5 / 32)
  assert.equal(weightOf(32, 8), 1)
})

test('3 M parameters and 500 M operations on ImageNet score 0.862', () => {
  assert.equal(scoreOf(3e6, 500e6, 'imagenet').toFixed(3), '0.862')
})

test('adder tree: floor(n/2) additions per level, one bit more per level', () => {
  assert.equal(adderTree(1, 4, 4), 0)
  assert.equal(adderTree(2, 4, 4), 8 / 32)
  // 9 products: 4 at 8 bits, then 5 values: 2 at 9, 3: 1 at 10, 2: 1 at 11
  assert.equal(adderTree(9, 4, 4), (4 * 8 + 2 * 9 + 10 + 11) / 32)
})

test('a sparse tensor counts its non-zeros and one mask bit per element', () => {
  const values = Array.from({ length: 64 }, (_, i) => (i % 5 === 0 ? i + 1 : 0))
  assert.deepEqual(storedBits(values, [8, 8], 4, axes), { bits: 13 * 4 + 64, maskBits: 64, nonZeros: 13 })
})

test('storage stays dense where a mask costs more than it saves', () => {
  const values = Array.from({ length: 64 }, (_, i) => (i === 9 ? 0 : 1))
  assert.deepEqual(storedBits(values, [8, 8], 4, axes), { bits: 256, maskBits: 0, nonZeros: 63 })
})

test('512 x 128 weights in 4 x 4 blocks take 4096 mask bits', () => {
  const kept = (row: number, column: number): boolean =>
    (Math.floor(row / 4) * 7 + Math.floor(column / 4) * 3) % 4 === 0
  const values = new Float32Array(512 * 128)
  // a few zeros inside kept blocks, as rounding makes them, do not hide the blocks
  for (let i = 0; i < values.length; i++) values[i] = kept(Math.floor(i / 128), i % 128) && i % 17 !== 0 ? 1 : 0
  const { maskBits, bits } = storedBits(values, [512, 128], 4, axes)
  assert.equal(maskBits, (512 / 4) * (128 / 4))
  assert.equal(maskBits, 4096)
  assert.equal(bits, 4096 + (512 * 128 * 4) / 4)
})

test('removed output channels take one mask bit per channel', () => {
  const values = new Float32Array(16 * 32 * 9).fill(1)
  values.fill(0, 2 * 288, 7 * 288)
  const nonZeros = 11 * 288
  assert.deepEqual(storedBits(values, [16, 32, 3, 3], 32, axes), { bits: nonZeros * 32 + 16, maskBits: 16, nonZeros })
})

test('unstructured zeros are never taken for blocks', () => {
  let seed = 1
  const random = (): number => {
    seed = (seed * 16807) % 2147483647
    return seed / 2147483647
  }
  for (const sparsity of [0.3, 0.5, 0.75, 0.9]) {
    const values = Float32Array.from({ length: 32 * 32 * 9 }, () => (random() < sparsity ? 0 : 1))
    assert.equal(storedBits(values, [32, 32, 3, 3], 4, axes).maskBits, values.length)
  }
})
