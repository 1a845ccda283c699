/** The page's script: shows what is in a model, tries what compression makes of it, and compresses it. */
import * as mnc from './mnc.js'
import * as ort from './ort.wasm.min.mjs'

ort.env.wasm.numThreads = 1
ort.env.wasm.wasmPaths = new URL('.', import.meta.url).href
mnc.useEngine(ort)

const $ = (id) => document.getElementById(id)
const count = (n) => (n === null ? '?' : n.toLocaleString('en'))
const percent = (x) => `${(100 * x).toFixed(1)} %`
const OPS = ['*']
let current = null

const said = async (work) => {
  $('error').hidden = true
  try {
    await work()
  } catch (error) {
    $('error').textContent = error instanceof mnc.MncError ? error.describe() : String(error)
    $('error').hidden = false
  }
  $('status').textContent = ''
}
/** Lets the page show it before the work begins. */
const status = async (text) => {
  $('status').textContent = text
  await new Promise((done) => setTimeout(done, 20))
}

function fill(table, rows) {
  $(table).tBodies[0].replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement('tr')
      row.append(...cells.map((text) => Object.assign(document.createElement('td'), { textContent: text })))
      return row
    }),
  )
}

async function compressed(sparsity, weightBits) {
  const model = mnc.decodeModel(current.bytes)
  if (sparsity > 0) await mnc.pass(model, 'prune', { sparsity, ops: OPS })
  if (weightBits > 0)
    await mnc.pass(model, 'quantize', { weightBits, activationBits: 0, ops: OPS, firstLayer: 'quantize' })
  const exported = await mnc.exportModel(model, { format: 'packed' })
  return { bytes: mnc.encodeModel(exported.model), info: await mnc.modelInfo(model) }
}

const zerosOf = ({ layers }) => {
  const weights = layers.reduce((n, l) => n + l.weights, 0)
  return weights === 0 ? 0 : layers.reduce((n, l) => n + l.sparsity * l.weights, 0) / weights
}

async function open(file) {
  await said(async () => {
    $('model').hidden = true
    await status(`reading ${file.name} ...`)
    const bytes = new Uint8Array(await file.arrayBuffer())
    const model = mnc.decodeModel(bytes, { file: file.name })
    const info = await mnc.modelInfo(model, { bytes: bytes.length })
    current = { name: file.name, bytes }
    $('facts').textContent =
      `${file.name}: ${count(bytes.length)} bytes, ${count(info.parameters)} parameters, ${count(info.macs)} MACs, ` +
      `${percent(zerosOf(info))} zeros, opset ${info.opset}`
    fill(
      'layers',
      info.layers.map((l) => [
        ...[l.name, l.op, l.shape.join('x'), count(l.weights), percent(l.sparsity), l.weightBits, l.activationBits],
        ...[count(l.macs), count(Math.round(l.bytes))],
      ]),
    )
    fill('estimates', [])
    $('model').hidden = false
    const rows = []
    for (const [label, sparsity, bits] of [
      ['8 bits', 0, 8],
      ['4 bits', 0, 4],
      ['4 bits, 75 % zeros', 0.75, 4],
    ]) {
      await status(`trying ${label} ...`)
      try {
        const { bytes: made, info: then } = await compressed(sparsity, bits)
        rows.push([label, count(made.length), percent(made.length / bytes.length), percent(zerosOf(then)), bits])
      } catch (error) {
        if (!(error instanceof mnc.MncError)) throw error
        rows.push([label, error.message, '', '', ''])
      }
      fill('estimates', rows)
    }
  })
}

$('file').addEventListener('change', () => {
  const [file] = $('file').files
  // the same file may be chosen again
  $('file').value = ''
  if (file) void open(file)
})
for (const [event, over] of [
  ['dragover', true],
  ['dragleave', false],
  ['drop', false],
])
  $('drop').addEventListener(event, (e) => {
    e.preventDefault()
    $('drop').classList.toggle('over', over)
    if (event === 'drop' && e.dataTransfer.files[0]) void open(e.dataTransfer.files[0])
  })
$('form').addEventListener('submit', (e) => {
  e.preventDefault()
  void said(async () => {
    await status('compressing ...')
    const { bytes } = await compressed(Number($('sparsity').value), Number($('bits').value))
    const link = document.createElement('a')
    link.href = URL.createObjectURL(new Blob([bytes]))
    link.download = current.name.replace(/\.\w+$/, '.small.onnx')
    link.click()
    URL.revokeObjectURL(link.href)
  })
})
// the engine is fetched for the first model, which is this one: from then on the page asks for nothing
const tiny = mnc.parseModel(`onnx {ir_version=8}
opset ai.onnx=17
graph "g"
  input %x : float32[1]
  %y : float32[1] = Relu(%x)
  output %y
end
`)
await (await ort.InferenceSession.create(mnc.encodeModel(tiny))).release()
document.documentElement.dataset.ready = 'yes'
