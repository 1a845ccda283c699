/** onnxruntime in a separate process: what ends that process costs one answer, and nothing else. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import test, { afterEach } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { ElementType } from '../../src/graph/types.ts'
import { isolatedTypes, isProbeFailure, loadIsolated } from '../../src/runtime/isolated/engine.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { isReadable } from '../../src/runtime/ort-session.ts'
import { probeLimits, setProbeLimits } from '../../src/runtime/probe-options.ts'
import { evaluated } from '../support/compiled.ts'
import { aborting, bombs, doubling, endlessLoop, longLoop, ofType, withSequence } from '../support/hostile.ts'

const usual = probeLimits()
afterEach(() => setProbeLimits(usual))

const double = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,3]
  %y = Add(%x, %x)
  output %y
end
`)

const row = { x: Tensor.float32([1, 3], Float32Array.of(1, 2, 3)) }

async function works(): Promise<void> {
  const session = await loadIsolated(double)
  const { y } = await session.run(row)
  assert.deepEqual([...y!.toFloat32()], [2, 4, 6])
  await session.dispose()
}

const fails = (what: RegExp) => (error: unknown) => {
  assert.ok(error instanceof MncError && isProbeFailure(error), String(error))
  assert.match(error.describe(), what)
  return true
}

test('a model that makes the engine abort is an error; the next one gets a new process', async () => {
  for (const channels of [1, 3, 5]) {
    const session = await loadIsolated(aborting(channels))
    const x = Tensor.float32([1, channels, 8, 8], new Float32Array(64 * channels))
    await assert.rejects(session.run({ x }), fails(/makes onnxruntime abort/))
    await works()
  }
})

test('a run that does not end in time is stopped', async () => {
  for (const model of [endlessLoop(), longLoop()]) {
    const session = await loadIsolated(model)
    setProbeLimits({ seconds: 0.5 })
    const start = performance.now()
    const x = Tensor.float32([1, 4], new Float32Array(4))
    await assert.rejects(session.run({ x }), fails(/more than 0\.5 s.*--probe-seconds/))
    assert.ok(performance.now() - start < 3000)
    setProbeLimits(usual)
    await assert.rejects(session.run({ x }), fails(/./), 'its session went with it')
    await session.dispose()
    await works()
  }
})

test('a run that takes too much memory is stopped', async () => {
  setProbeLimits({ bytes: 400 * 2 ** 20 })
  const session = await loadIsolated(bombs.Expand!(), { optimization: 'disabled' })
  await assert.rejects(session.run({ x: Tensor.float32([1, 4], new Float32Array(4)) }), fails(/GiB of memory/))
  await works()
})

test('tensors of every type that crosses come back unchanged, large and empty ones too', async () => {
  const types: ElementType[] = ['float32', 'float64', 'float16', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32']
  types.push('int64', 'uint64', 'bool')
  for (const type of types) {
    const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : ${type}[N]
  %y = Identity(%x)
  output %y
end
`)
    const session = await loadIsolated(model)
    for (const size of [0, 1, 3, 100_003]) {
      const x = Tensor.from(
        type,
        [size],
        Float64Array.from({ length: size }, (_, i) => i % 2),
      )
      const { y } = await session.run({ x })
      assert.ok(y!.equals(x), `${type}[${size}]`)
    }
    await session.dispose()
  }
})

test('concurrent requests each get their own answer', async () => {
  const all = await Promise.all(
    Array.from({ length: 8 }, async (_, k) => {
      const session = await loadIsolated(double)
      const { y } = await session.run({ x: Tensor.float32([1, 3], Float32Array.of(k, k, k)) })
      await session.dispose()
      return y!.toFloat32()[0]
    }),
  )
  assert.deepEqual(all, [0, 2, 4, 6, 8, 10, 12, 14])
})

test('the process does not keep the program from ending', async () => {
  const code = `import { isolatedTypes } from './src/runtime/isolated/engine.ts'
import { parseModel } from './src/codec/text-parse.ts'
const m = parseModel('onnx {ir_version=10}\\nopset ai.onnx=21\\ngraph "g"\\n  input %x : float32[2]\\n  %y = Neg(%x)\\n  output %y\\nend\\n')
console.log((await isolatedTypes(m))[0].dims.join())`
  const out = await new Promise<string>((done, fail) => {
    execFile(process.execPath, evaluated(code), { timeout: 60_000 }, (error, stdout) =>
      error ? fail(error) : done(stdout),
    )
  })
  assert.equal(out.trim(), '2')
})

/** Types that onnxruntime computes and the node binding cannot hand over, with the opset that has them. */
const unreadable: readonly (readonly [type: ElementType, code: number, opset: number])[] = [
  ...([
    ['int4', 22, 21],
    ['uint4', 21, 21],
    ['bfloat16', 16, 21],
    ['float8e4m3fn', 17, 21],
  ] as const),
  ...([
    ['float8e5m2fnuz', 20, 21],
    ['float8e8m0', 24, 24],
    ['int2', 26, 25],
    ['uint2', 25, 25],
  ] as const),
]

test('values of types that do not cross are typed, and never asked for', async () => {
  for (const [type, code, opset] of unreadable) {
    assert.ok(!isReadable(type))
    const model = ofType(code, { opset, exposed: true })
    await inferTypes(model)
    assert.equal(model.graph.find('n')!.type?.elem, type)
    const x = Tensor.float32([1, 3, 4, 4], new Float32Array(48).fill(1))
    for (const session of [await ortExecutor().load(model), await loadIsolated(model)]) {
      assert.deepEqual(session.outputNames, ['y'], type)
      const { y } = await session.run({ x })
      assert.deepEqual(y!.dims, [1, 2, 8, 8])
      await assert.rejects(session.run({ x }, ['n']), { code: 'unreadable-output' })
      await session.dispose()
    }
  }
  const session = await ortExecutor().load(withSequence())
  assert.deepEqual(session.outputNames, ['y'])
  await assert.rejects(session.run({ x: Tensor.float32([1, 4], new Float32Array(4)) }, ['seq']), /not a tensor/)
  await session.dispose()
})

test('functions that multiply are counted before anything is loaded', async () => {
  const start = performance.now()
  for (const model of [doubling(30), doubling(20, 3), doubling(60, 5)])
    for (const load of [() => ortExecutor().load(model), () => loadIsolated(model), () => isolatedTypes(model)])
      await assert.rejects(load(), { code: 'functions-too-large' })
  assert.ok(performance.now() - start < 5000)
  const few = await ortExecutor().load(doubling(6))
  await few.dispose()
})
