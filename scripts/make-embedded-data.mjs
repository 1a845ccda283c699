// Makes data/fashion-mnist/ from the full Fashion-MNIST: the first 9,000 training and 2,000 test images, in file order
// (the order of the original is already random), as IDX .gz. Run: node scripts/make-embedded-data.mjs DIR, where DIR
// holds the four standard files (Debian: /usr/share/datasets/fashion-mnist of the package dataset-fashion-mnist).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { constants, gunzipSync, gzipSync } from 'node:zlib'

const from = process.argv[2]
if (!from) {
  console.error('usage: node scripts/make-embedded-data.mjs DIR')
  process.exit(2)
}
const to = fileURLToPath(new URL('../data/fashion-mnist', import.meta.url))
mkdirSync(to, { recursive: true })

for (const [split, count] of [
  ['train', 9000],
  ['t10k', 2000],
])
  for (const [kind, header, size] of [
    ['images-idx3', 16, 28 * 28],
    ['labels-idx1', 8, 1],
  ]) {
    const name = `${split}-${kind}-ubyte.gz`
    const part = gunzipSync(readFileSync(join(from, name))).subarray(0, header + count * size)
    part.writeUInt32BE(count, 4)
    const packed = gzipSync(part, { level: 9, memLevel: 9, strategy: constants.Z_DEFAULT_STRATEGY })
    packed.fill(0, 4, 8) // no time stamp
    packed[9] = 255 // no operating system
    writeFileSync(join(to, name), packed)
    console.log(`${name}: ${count} items, ${packed.length} bytes`)
  }
