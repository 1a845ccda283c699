/** `mnc doctor`: what mnc runs on, and whether it works; with a model, which parts of it a device leaves to the CPU. */
import { batchOption } from '../data/loader-options.ts'
import { deviceNames } from '../runtime/device-options.ts'
import type { Fallback } from '../runtime/executor.ts'
import { defineCommand } from './define-command.ts'
import { table } from './table.ts'

const GIB = 2 ** 30

export const doctor = defineCommand({
  name: 'doctor',
  summary:
    'Show versions, devices and memory, and test the installation; show which nodes of a model a device leaves to the CPU',
  arguments: [{ name: 'MODEL', description: 'A model to check on the device', optional: true }],
  options: {
    device: {
      type: 'string',
      placeholder: 'DEVICE',
      suggestions: deviceNames,
      description: 'Device to check; see train --device',
    },
    batch: batchOption(8, 'Images in the training step that is checked'),
  },
  examples: ['mnc doctor', 'mnc doctor --device webgpu student.onnx'],
  async run([path], options, io) {
    const os = await import('node:os')
    const { engineInfo } = await import('../runtime/ort-session.ts')
    const { openDevice } = await import('../runtime/devices/device.ts')
    const { installedBackends } = await import('../runtime/tfjs/backends.ts')
    const { packageVersion } = await import('../base/package-files.ts')
    const [cpu] = os.cpus()
    const engine = await engineInfo()
    const executor = await openDevice(options.device ?? 'cpu')
    const report = {
      mnc: packageVersion(),
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
      cpu: cpu?.model ?? 'unknown',
      cores: os.availableParallelism(),
      memory: { total: os.totalmem(), free: os.freemem() },
      onnxruntime: engine.version,
      devices: engine.bundled,
      devicesNeedingLibraries: engine.external,
      tfjs: installedBackends(),
      device: executor.device,
      nativeKernels: (await executor.nativeKernels?.()) ?? null,
      forwardMilliseconds: await tryForward(executor),
      ...(path !== undefined && { fallbacks: await fallbacksOf(path, options.batch, executor) }),
    }
    const rows = [
      ['mnc', report.mnc],
      ['node', `${report.node} on ${report.platform}`],
      ['cpu', `${report.cpu}, ${report.cores} usable cores`],
      ['memory', `${(report.memory.free / GIB).toFixed(1)} of ${(report.memory.total / GIB).toFixed(1)} GiB free`],
      ['onnxruntime', report.onnxruntime],
      [
        'devices',
        `${report.devices.join(', ')}; with their libraries installed: ${engine.external.join(', ') || 'none'}`,
      ],
      ['TensorFlow.js', report.tfjs.join(', ') || 'not installed'],
      ['device', report.device.description],
      ['native kernels', report.nativeKernels ?? 'none'],
      ['one forward pass', `${report.forwardMilliseconds.toFixed(1)} ms (LeNet, 1 image)`],
    ]
    io.result(report, (width) => [table(rows, 'll', width), ...describe(report.fallbacks, width)].join('\n\n'))
  },
})

type Executor = import('../runtime/executor.ts').Executor

/** Builds a small network and runs it: the engine loads and computes. Milliseconds of the run. */
async function tryForward(executor: Executor): Promise<number> {
  const { buildNetwork } = await import('../models/spec.ts')
  const { Tensor } = await import('../graph/tensor.ts')
  const { liftedFor } = await import('../train/step/lift.ts')
  const session = await executor.load(await liftedFor(executor, buildNetwork({ family: 'lenet' })))
  try {
    const start = performance.now()
    await session.run({ input: Tensor.float32([1, 1, 28, 28], new Float32Array(28 * 28)) })
    return performance.now() - start
  } finally {
    await session.dispose()
  }
}

interface Fallbacks {
  readonly inference: readonly Fallback[]
  /** null: the model cannot be trained; `reason` says why. */
  readonly training: readonly Fallback[] | null
  readonly reason?: string
}

async function fallbacksOf(path: string, batch: number, executor: Executor): Promise<Fallbacks> {
  const { readModel } = await import('../codec/codec.ts')
  const { liftedFor } = await import('../train/step/lift.ts')
  const { stepFallbacks } = await import('../train/step/step-fallbacks.ts')
  const { MncError } = await import('../base/errors.ts')
  const model = await readModel(path)
  const session = await executor.load(await liftedFor(executor, model))
  const inference = session.fallbacks
  await session.dispose()
  try {
    return { inference, training: await stepFallbacks(model, batch, executor) }
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    return { inference, training: null, reason: error.message }
  }
}

function describe(fallbacks: Fallbacks | undefined, width: number): string[] {
  if (!fallbacks) return []
  const part = (what: string, list: readonly Fallback[]): string =>
    list.length === 0
      ? `${what}: every node runs on the device`
      : `${what}: on the CPU\n${table([['op', 'nodes', 'why'], ...list.map((f) => [f.op, String(f.nodes), f.reason])], 'lrl', width)}`
  const { inference, training, reason } = fallbacks
  return [part('inference', inference), training ? part('training step', training) : `no training step: ${reason}`]
}
