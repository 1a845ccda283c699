/** A page in Chromium, served over HTTP as users serve theirs, that runs a model in onnxruntime-web. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { encodeModel } from '../../src/codec/codec.ts'
import type { Model } from '../../src/graph/model.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import { browser } from './page-looks.ts'

/** How a page imports it, and the provider that it asks for. */
export const engines = {
  wasm: { module: 'ort.wasm.bundle.min.mjs', provider: 'wasm' },
  /** `import 'onnxruntime-web'` */
  webgpu: { module: 'ort.bundle.min.mjs', provider: 'webgpu' },
  /** `import 'onnxruntime-web/webgpu'` */
  'webgpu of its own': { module: 'ort.webgpu.bundle.min.mjs', provider: 'webgpu' },
} as const

export type Engine = keyof typeof engines

const PAGE = '<!doctype html><meta charset="utf-8"><title>A network</title><p id="said"></p>'
const kinds: Readonly<Record<string, string>> = { mjs: 'text/javascript', wasm: 'application/wasm', '': 'text/html' }

/** Runs in the page. */
const RUN = `async ({ module, provider, model, input, values, dims }) => {
  const ort = await import('/dist/' + module)
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmPaths = '/dist/'
  ort.env.logLevel = 'error'
  const session = await ort.InferenceSession.create('/' + model + '.onnx', { executionProviders: [provider] })
  const out = await session.run({ [input]: new ort.Tensor('float32', Float32Array.from(values), dims) })
  return [...out[session.outputNames[0]].data].map(Number)
}`

export interface WebPage {
  /** The first output. */
  run(model: string, engine: Engine, input: string, x: Tensor): Promise<number[]>
  close(): Promise<void>
}

/** `models`: by the name that the page asks for. WebGPU is that of Chromium's own software adapter. */
export async function openWebPage(models: Readonly<Record<string, Model>>): Promise<WebPage> {
  const files = new Map(Object.entries(models).map(([name, m]) => [`/${name}.onnx`, encodeModel(m)]))
  const dist = new URL('./', import.meta.resolve('onnxruntime-web'))
  const server = createServer(({ url = '/' }, response) => {
    const [, extension = ''] = /\.(\w+)$/.exec(url) ?? []
    response.setHeader('content-type', kinds[extension] ?? 'application/octet-stream')
    const asset = url.startsWith('/dist/') ? readFileSync(fileURLToPath(new URL(basename(url), dist))) : null
    response.end(files.get(url) ?? asset ?? (url === '/' ? PAGE : ''))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const root = process.getuid?.() === 0
  const gpu = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']
  const chrome = await chromium.launch({
    ...{ executablePath: browser!, args: [...gpu, ...(root ? ['--no-sandbox'] : [])] },
  })
  const page = await chrome.newPage()
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  return {
    run: (model, engine, input, x) =>
      page.evaluate<number[]>(
        `(${RUN})(${JSON.stringify({ ...engines[engine], model, input, values: [...x.toFloat32()], dims: x.dims })})`,
      ),
    async close() {
      await chrome.close()
      server.close()
    },
  }
}
