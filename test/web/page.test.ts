/** The page for browsers, in Chromium: what it shows and writes is what the library in Node.js gives, and it asks nobody. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import test, { after } from 'node:test'
import { chromium } from 'playwright-core'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { Rng } from '../../src/base/rng.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { createHash as webHash } from '../../src/web/node/crypto.ts'
import { Buffer as WebBuffer } from '../../src/web/node/globals.ts'
import { browser } from '../support/page-looks.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-web-'))
after(() => rmSync(folder, { recursive: true }))
const site = join(folder, 'site')
execFileSync(process.execPath, ['scripts/web-page.mjs', site])

const types: Readonly<Record<string, string>> = {
  ...{ '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript' },
  '.wasm': 'application/wasm',
}

/** A residual network with a batch that the file leaves open. */
function network(): Uint8Array {
  const net = new NetworkBuilder(new Rng(3))
  let x = net.relu(
    net.batchNorm(net.conv(net.input({ channels: 3, size: 16 }), 'stem', 16, { kernel: 3 }), 'bn0'),
    'r0',
  )
  const y = net.batchNorm(net.conv(x, 'body', 16, { kernel: 3 }), 'bn1')
  x = net.relu(net.add(x, y, 'sum'), 'r1')
  return encodeModel(net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', 10, 'logits')))
}

/** What the page does, by the library as it runs here. */
async function compressedHere(bytes: Uint8Array, sparsity: number, weightBits: number): Promise<Uint8Array> {
  const model = decodeModel(bytes)
  const ops = ['*']
  if (sparsity > 0) await runPass(model, 'prune', { sparsity, ops })
  await runPass(model, 'quantize', { weightBits, activationBits: 0, ops, firstLayer: 'quantize' })
  return encodeModel((await exportModel(model, { format: 'packed' })).model)
}

const skip = !browser && 'no Chromium'

test('a model is shown, tried and compressed to the bytes that Node.js writes; nothing is sent', {
  skip,
}, async (t) => {
  const asked: string[] = []
  const server = createServer((request, reply) => {
    const path = request.url === '/' ? 'index.html' : request.url!.slice(1)
    asked.push(path)
    try {
      const body = readFileSync(join(site, path))
      reply.writeHead(200, { 'content-type': types[extname(path)] ?? 'text/plain' }).end(body)
    } catch {
      reply.writeHead(404).end()
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  const chrome = await chromium.launch({ executablePath: browser!, args })
  t.after(() => chrome.close())
  const page = await chrome.newPage()
  const requests: string[] = []
  page.on('request', (r) => requests.push(r.url()))
  const broken: string[] = []
  page.on('pageerror', (e) => broken.push(String(e)))
  await page.goto(`http://127.0.0.1:${port}/`)
  await page.waitForSelector('html[data-ready]', { timeout: 60_000 })
  const loaded = requests.length

  const bytes = network()
  const file = join(folder, 'net.onnx')
  writeFileSync(file, bytes)
  await page.setInputFiles('#file', file)
  await page.waitForSelector('#estimates tbody tr:nth-child(3)', { timeout: 120_000 })
  await page.waitForFunction(`document.getElementById('status').textContent === ''`)
  assert.equal(await page.textContent('#error'), '')

  const info = await modelInfo(decodeModel(bytes), { bytes: bytes.length })
  const rows = (table: string): Promise<string[][]> =>
    page.$$eval(`#${table} tbody tr`, (all) =>
      all.map((row) =>
        Array.from((row as unknown as { cells: Iterable<{ textContent: string }> }).cells, (c) => c.textContent),
      ),
    )
  const number = (n: number): string => n.toLocaleString('en')
  assert.deepEqual(
    (await rows('layers')).map(([name, op, shape, weights, , , , macs]) => [name, op, shape, weights, macs]),
    info.layers.map((l) => [l.name, l.op, l.shape.join('x'), number(l.weights), number(l.macs!)]),
  )
  assert.ok((await page.textContent('#facts'))!.includes(`${number(info.macs!)} MACs`))
  const estimates = (await rows('estimates')).map(([, size]) => size)
  const wanted = []
  for (const [sparsity, bits] of [
    [0, 8],
    [0, 4],
    [0.75, 4],
  ] as const)
    wanted.push(number((await compressedHere(bytes, sparsity, bits)).length))
  assert.deepEqual(estimates, wanted)

  await page.selectOption('#sparsity', '0.5')
  await page.selectOption('#bits', '4')
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#go')])
  assert.equal(download.suggestedFilename(), 'net.small.onnx')
  assert.deepEqual(readFileSync(await download.path()), Buffer.from(await compressedHere(bytes, 0.5, 4)))

  writeFileSync(file, 'not a model')
  await page.setInputFiles('#file', file)
  await page.waitForSelector('#error:not([hidden])')
  assert.match((await page.textContent('#error'))!, /net\.onnx: /)
  assert.deepEqual(broken, [])
  // nothing is asked for once the page is there
  assert.deepEqual(
    requests.slice(loaded).filter((url) => !url.startsWith('blob:')),
    [],
  )
  assert.deepEqual([...new Set(asked)].filter((f) => f !== 'favicon.ico').sort(), [
    ...['index.html', 'mnc.js', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm', 'ort.wasm.min.mjs'],
    ...['page.css', 'page.js'],
  ])
})

test("the stand-ins for Node's modules do what those do", () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length) % 251)
    const both = [webHash('sha256'), createHash('sha256')].map((h) =>
      h
        .update(bytes.subarray(0, length >> 1))
        .update(bytes.subarray(length >> 1))
        .update('é')
        .digest('hex'),
    )
    assert.equal(both[0], both[1], `${length} bytes`)
    const [web, node] = [WebBuffer.from(bytes.buffer, 0, length), Buffer.from(bytes.buffer, 0, length)]
    for (const encoding of ['hex', 'base64', 'latin1'] as const)
      assert.equal(web.toString(encoding), node.toString(encoding))
    assert.deepEqual([...WebBuffer.from(node.toString('base64'), 'base64')], [...bytes])
    assert.equal(WebBuffer.compare(web, bytes.subarray(0, 3)), Buffer.compare(node, bytes.subarray(0, 3)))
  }
  const text = 'añ€😀'
  assert.equal(WebBuffer.byteLength(text), Buffer.byteLength(text))
  const [web, node] = [WebBuffer.alloc(20), Buffer.alloc(20)]
  for (const b of [web, node]) {
    b.write(text, 2)
    b.writeFloatLE(-1.5, 12)
    b.writeUInt32LE(0xdeadbeef, 16)
  }
  assert.deepEqual([...web], [...node])
  assert.equal(WebBuffer.from(node.subarray(2, 12)).toString(), node.subarray(2, 12).toString())
})
