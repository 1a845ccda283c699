import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { Augmenter } from '../../src/data/augment.ts'
import { type AugmentPolicy, augmentOps, magnitudeOf } from '../../src/data/policy.ts'
import { augmentPolicySchema, loadPolicy, parsePolicy } from '../../src/data/policy-file.ts'
import type { Preprocess } from '../../src/data/preprocess.ts'

// A mean that no byte hits, so that 0 after normalisation means exposed.
const preprocess = (channels: number): Preprocess => ({
  scale: 255,
  mean: new Array<number>(channels).fill(0.4705),
  std: new Array<number>(channels).fill(0.25),
  size: [32, 32],
  layout: 'NCHW',
})
const shape = (channels: number) => ({ channels, height: 32, width: 32 })
const noise = (channels: number) => Uint8Array.from({ length: channels * 1024 }, (_, i) => new Rng(5, i).integer(256))

function apply(policy: AugmentPolicy, channels: number, seed: number, image = noise(channels)): Float32Array {
  const out = new Float32Array(channels * 1024)
  new Augmenter(shape(channels), preprocess(channels), policy).write(image, 0, new Rng(seed), out, 0)
  return out
}
const zeros = (planes: Float32Array, from = 0) =>
  planes.subarray(from, from + 1024).reduce((n, v) => n + (v === 0 ? 1 : 0), 0)

test('the micronet policy is the table of fifteen, with its magnitudes', () => {
  const { tuples = [], draw, crop, flip, cutout } = loadPolicy('micronet')
  assert.deepEqual([draw, crop, flip, cutout], [2, { padding: 4 }, 0.5, { size: 16 }])
  assert.deepEqual(
    tuples.map((t) => [t.op, t.probability, Number(magnitudeOf(t).toFixed(6))]),
    [
      ...[
        ['invert', 0.2, 0],
        ['contrast', 0.4, 0.82],
        ['rotate', 0.5, 3],
        ['translate-x', 0.4, 3],
      ],
      ...[
        ['sharpness', 0.5, 0.64],
        ['shear-y', 0.3, 0.12],
        ['translate-y', 0.6, 8],
        ['auto-contrast', 0.6, 0],
      ],
      ...[
        ['equalize', 0.5, 0],
        ['solarize', 0.4, 154],
        ['color', 0.5, 1],
        ['posterize', 0.2, 4],
      ],
      ...[
        ['brightness', 0.4, 1],
        ['cutout', 0.3, 6],
        ['shear-x', 0.1, 0.09],
      ],
    ],
  )
  assert.deepEqual(new Set(tuples.map((t) => t.op)), new Set(augmentOps))
})

test('the schema file is the declaration', () => {
  const file: unknown = JSON.parse(readFileSync('schemas/augment-policy.schema.json', 'utf8'))
  assert.deepEqual(file, augmentPolicySchema, 'run node --import tsx scripts/make-augment-schema.mjs')
})

test('standard: all 81 crops and both mirrorings occur, exposed pixels are exactly 0, the rest is the image', () => {
  const image = noise(3)
  const plain = apply({}, 3, 0, image)
  const policy = loadPolicy('standard')
  const seen = new Set<string>()
  for (let seed = 0; seed < 1300; seed++) {
    const out = apply(policy, 3, seed, image)
    const match = findCrop(plain, out)
    assert.ok(match, `seed ${seed}: no crop of the image`)
    seen.add(match)
  }
  assert.equal(seen.size, 9 * 9 * 2)
})

/** The dy, dx, mirrored by which `out` is the crop of `plain`, zero padded; found from the definition. */
function findCrop(plain: Float32Array, out: Float32Array): string | undefined {
  const at = (c: number, y: number, x: number) =>
    y < 0 || x < 0 || y > 31 || x > 31 ? 0 : plain[c * 1024 + y * 32 + x]!
  const fits = (dy: number, dx: number, m: boolean, stride: number) => {
    for (let i = 0; i < 3072; i += stride) {
      const [c, y, x] = [i >> 10, (i >> 5) & 31, i & 31]
      if (out[i] !== at(c, y + dy, (m ? 31 - x : x) + dx)) return false
    }
    return true
  }
  for (let dy = -4; dy <= 4; dy++)
    for (let dx = -4; dx <= 4; dx++)
      for (const m of [false, true]) if (fits(dy, dx, m, 97) && fits(dy, dx, m, 1)) return `${dy},${dx},${m}`
  return undefined
}

for (const channels of [1, 3])
  test(`geometry and cutout leave exact zeros in all ${channels} channel(s), whatever comes after`, () => {
    const only = (...tuples: AugmentPolicy['tuples'] & object) => ({ draw: tuples.length, tuples })
    const translated = apply(only({ op: 'translate-y', probability: 1, magnitude: 8 }), channels, 3)
    const inside = apply({ draw: 1, tuples: [{ op: 'cutout', probability: 1, magnitude: 6 }] }, channels, 10)
    const last = apply({ cutout: { size: 16 } }, channels, 4)
    for (let c = 0; c < channels; c++) {
      assert.equal(zeros(translated, c * 1024), 8 * 32)
      const small = zeros(inside, c * 1024)
      assert.ok(small >= 9 && small <= 36, `${small}`)
      const large = zeros(last, c * 1024)
      assert.ok(large >= 64 && large <= 256, `${large}`)
      assert.equal(zeros(last), large)
    }
    // Drawn with replacement: over many draws, translation before inversion must occur.
    const both = {
      draw: 6,
      tuples: [
        { op: 'translate-x', probability: 1, magnitude: 5 },
        { op: 'invert', probability: 1 },
      ],
    } as const
    const exposed = Array.from({ length: 20 }, (_, seed) => zeros(apply(both, channels, seed)))
    assert.ok(exposed.every((n) => n % 32 === 0))
    assert.ok(exposed.some((n) => n > 0))
  })

test('probabilities: a tuple of p = 0.3 drawn once changes about 30 % of images', () => {
  const image = noise(1)
  const plain = apply({}, 1, 0, image)
  let changed = 0
  const policy: AugmentPolicy = { draw: 1, tuples: [{ op: 'invert', probability: 0.3 }] }
  for (let seed = 0; seed < 2000; seed++) if (apply(policy, 1, seed, image)[7] !== plain[7]) changed++
  assert.ok(Math.abs(changed - 600) < 5 * Math.sqrt(2000 * 0.3 * 0.7), `${changed}`)
})

test('a policy file is read; faults are named', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-policy-'))
  const file = join(folder, 'mine.json')
  const load = (text: string) => {
    writeFileSync(file, text)
    return loadPolicy(file)
  }
  assert.deepEqual(load('{"flip": 0.25}'), { flip: 0.25 })
  assert.throws(() => load('{"flip": 2}'), /mine\.json: \/flip must be <= 1/)
  assert.throws(() => load('{"flop": 1}'), /must NOT have additional properties/)
  assert.throws(() => load('{"draw": 1}'), /empty list/)
  assert.throws(() => load('not json'), /mine\.json'/)
  assert.throws(() => loadPolicy('macronet'), /none, standard, micronet|macronet/)
  assert.throws(
    () => parsePolicy({ tuples: [{ op: 'rotate', probability: 1 }] }, 'p'),
    /\/tuples\/0 \(rotate\) needs either a level/,
  )
  rmSync(folder, { recursive: true })
})
