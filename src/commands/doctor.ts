/** `mnc doctor`: what mnc runs on, and whether it runs. */
import { defineCommand } from './define-command.ts'
import { table } from './table.ts'

const GIB = 2 ** 30

export const doctor = defineCommand({
  name: 'doctor',
  summary: 'Show versions, devices and memory, and try the installation',
  arguments: [],
  options: {},
  async run(_args, _options, io) {
    const os = await import('node:os')
    const { engineInfo } = await import('../runtime/ort.ts')
    const { packageVersion } = await import('../version.ts')
    const [cpu] = os.cpus()
    const engine = await engineInfo()
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
      forwardMilliseconds: await tryForward(),
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
      ['one forward pass', `${report.forwardMilliseconds.toFixed(1)} ms (LeNet, 1 image)`],
    ]
    io.result(report, () => table(rows, 'll'))
  },
})

/** Builds a small network and runs it: the engine loads and computes. Milliseconds of the run. */
async function tryForward(): Promise<number> {
  const { buildNetwork } = await import('../models/spec.ts')
  const { Tensor } = await import('../graph/tensor.ts')
  const { ortExecutor } = await import('../runtime/ort.ts')
  const session = await ortExecutor().load(buildNetwork({ family: 'lenet' }))
  try {
    const start = performance.now()
    await session.run({ input: Tensor.float32([1, 1, 28, 28], new Float32Array(28 * 28)) })
    return performance.now() - start
  } finally {
    await session.dispose()
  }
}
