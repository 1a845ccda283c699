/** What an .npz may and may not contain: every number that is read is the number that was written, or the file is refused. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Dataset, openPictures } from '../../src/data/index.ts'
import { npy, npz } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-npz-'))
after(() => rmSync(scratch, { recursive: true }))

let files = 0
async function open(bytes: Uint8Array, split: 'train' | 'test' = 'train', memory?: number): Promise<Dataset> {
  const file = join(scratch, `${files++}.npz`)
  writeFileSync(file, bytes)
  return openPictures(`npz:${file}`, split, { memory })
}
const picture = npy(
  Uint8Array.from({ length: 3 * 4 }, (_, i) => i * 20),
  [3, 2, 2],
)
const three = npy(Int32Array.of(0, 1, 2), [3])
const withLabels = (labels: Uint8Array) => open(npz({ images: picture, labels }))
const withImages = (images: Uint8Array) => open(npz({ images, labels: three }))

test('any flipped bit of an array is found, stored or deflated', async () => {
  for (const deflate of [false, true]) {
    const good = npz({ images: picture, labels: three }, { deflate })
    assert.deepEqual([...(await open(good)).labels], [0, 1, 2])
    // the first label in the body of the archive's second entry; deflate's last byte has bits that mean nothing
    const at = good.indexOf('PK\x01\x02', 0, 'latin1') - (deflate ? 6 : 12)
    for (let bit = 0; bit < 8; bit++) {
      const bad = Buffer.from(good)
      bad[at]! ^= 1 << bit
      await assert.rejects(open(bad), /labels\.npy' (is damaged|cannot be unpacked|unpacks to)/, `bit ${bit}`)
    }
  }
  await assert.rejects(open(npz({ images: picture, labels: three }, { lies: { crc: 7 } })), /its CRC does not match/)
})

test('labels: whole numbers that can be a class, whatever their type', async () => {
  for (const type of [
    Uint8Array,
    Int8Array,
    Uint16Array,
    Int16Array,
    Uint32Array,
    Int32Array,
    Float32Array,
    Float64Array,
  ])
    assert.deepEqual([...(await withLabels(npy(type.of(2, 0, 5), [3, 1]))).labels], [2, 0, 5])
  assert.deepEqual([...(await withLabels(npy(BigInt64Array.of(2n, 0n, 5n), [3]))).labels], [2, 0, 5])
  const bad: [Uint8Array, RegExp][] = [
    [npy(Float32Array.of(0, Number.NaN, 1), [3]), /labels\[1\] is NaN/],
    [npy(Float64Array.of(0, 1, Number.POSITIVE_INFINITY), [3]), /labels\[2\] is Infinity/],
    [npy(Float32Array.of(0, 0.5, 1), [3]), /labels\[1\] is 0\.5/],
    [npy(Int8Array.of(0, -1, 1), [3]), /labels\[1\] is -1/],
    [npy(BigInt64Array.of(0n, 2n ** 40n + 1n, 1n), [3]), /labels\[1\] is 1099511627777/],
    [npy(BigUint64Array.of(0n, 2n ** 64n - 1n, 1n), [3]), /labels\[1\] is 18446744073709551615/],
    [npy(Int32Array.of(0, 2 ** 28, 1), [3]), /labels\[1\] is 268435456; a label is a whole number from 0 to 1048575/],
    [npy(Int32Array.of(0, 1, 2, 3, 4, 5), [3, 2]), /labels 'labels' have dims \[3,2\]/],
    [npy(Int32Array.of(0, 1), [2]), /2 labels for 3 images/],
  ]
  for (const [labels, message] of bad) await assert.rejects(withLabels(labels), message)
})

test('classes are the largest label of all splits', async () => {
  const both = npz({
    ...{ train_images: picture, train_labels: npy(Int32Array.of(0, 1, 6), [3]) },
    ...{ test_images: picture, test_labels: npy(Int32Array.of(2, 0, 0), [3]) },
  })
  assert.deepEqual([(await open(both, 'test')).classes, (await open(both, 'train')).classes], [7, 7])
})

test('what a pixel means follows from its type', async () => {
  const bytes = async (images: Uint8Array) => [...(await withImages(images)).images]
  const dims = [3, 1, 1]
  assert.deepEqual(await bytes(npy(Uint8Array.of(0, 1, 1), dims)), [0, 1, 1])
  assert.deepEqual(await bytes(npy(Uint8Array.of(0, 1, 1), dims, { type: '|b1' })), [0, 255, 255])
  for (const type of [Float32Array, Float64Array]) {
    assert.deepEqual(await bytes(npy(type.of(0, 0.5, 1), dims)), [0, 128, 255])
    assert.deepEqual(await bytes(npy(type.of(-1e-7, 0.2, 1.0000001), dims)), [0, 51, 255])
    assert.deepEqual(await bytes(npy(type.of(0, 1, 1), dims)), [0, 255, 255])
    assert.deepEqual(await bytes(npy(type.of(0, 1, 255), dims)), [0, 1, 255])
    for (const wrong of [-1, 256, Number.NaN, Number.POSITIVE_INFINITY, 1.5, 127.5])
      await assert.rejects(bytes(npy(type.of(0, 1, wrong), dims)), new RegExp(`contains ${wrong}, but its pixels are`))
  }
  for (const type of [Int8Array, Int16Array, Uint16Array, Int32Array, Uint32Array])
    await assert.rejects(
      bytes(npy(type.of(0, 1, 2), dims)),
      /images are uint8 \(0\.\.255\), float32 or float64, or bool/,
    )
  const set = await withImages(npy(Float32Array.of(0, 0.25, 0.5), dims))
  assert.ok(set.notes.includes('pixels are float, 0..1; found 0..0.5'), set.notes.join())
})

test('a float split of zeros and ones is read as the other split is', async () => {
  const floats = (...v: number[]) => npy(Float32Array.from(v), [3, 1, 1])
  const file = (train: Buffer, held: Buffer) =>
    npz({ train_images: train, train_labels: three, test_images: held, test_labels: three })
  assert.deepEqual([...(await open(file(floats(0, 9, 255), floats(0, 1, 1)), 'test')).images], [0, 1, 1])
  assert.deepEqual([...(await open(file(floats(0, 0.1, 1), floats(0, 1, 1)), 'test')).images], [0, 255, 255])
})

test('what unpacks to more than it says, or than may be, is refused before it is unpacked', async () => {
  const mb = 64
  const zeros = new Uint8Array(mb * 2 ** 20)
  const honest = npz({ images: npy(zeros, [mb, 1024, 1024]), labels: npy(new Uint8Array(mb), [mb]) }, { deflate: true })
  assert.ok(honest.length < 200_000)
  const before = process.memoryUsage().rss
  await assert.rejects(
    open(honest, 'train', 32),
    /array 'images' takes 65 MB of memory, more than the 32 MB for images/,
  )
  const image = npy(zeros, [1, 2, 2])
  await assert.rejects(open(npz({ images: image, labels: three }, { deflate: true })), /bytes more than its shape/)
  const lies = { bytes: npy(new Uint8Array(4), [1, 2, 2]).length }
  await assert.rejects(open(npz({ images: image }, { deflate: true, lies })), /unpacks to more than/)
  const one = npz({ images: image, labels: npy(Uint8Array.of(0), [1]) }, { deflate: true, lies })
  await assert.rejects(
    open(one),
    /'labels' (is truncated|contains)|'images\.npy' unpacks to more than the \d+ bytes it declares/,
  )
  assert.ok(process.memoryUsage().rss - before < 300 * 2 ** 20)
})

test('damaged archives of every kind are an error of one line', async () => {
  const good = npz({ images: picture, labels: three }, { deflate: true })
  for (let cut = 0; cut < good.length; cut += 7) await assert.rejects(open(good.subarray(0, cut)), { blame: 'user' })
  for (let at = 0; at < good.length; at += 3) {
    const bad = Buffer.from(good)
    bad[at]! ^= 0xff
    // bytes that nobody reads, such as dates, may be anything
    await open(bad).then(
      (set) => assert.deepEqual([...set.labels], [0, 1, 2]),
      (error) => assert.equal(error.blame, 'user', `byte ${at}: ${error.stack}`),
    )
  }
  const none = npy(new Uint8Array(0), [3, 0, 2])
  await assert.rejects(withImages(none), /there are no pixels/)
  await assert.rejects(open(npz({ images: npy(new Uint8Array(0), [0, 2, 2]), labels: npy(new Uint8Array(0), [0]) })), {
    blame: 'user',
  })
})
