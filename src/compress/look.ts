/** The first look: what the model and the data are, whether mnc can help, and what is worth knowing before it starts. */
import type { ModelInfo } from '../analysis/model-info.ts'
import { modelError, usageError } from '../base/errors.ts'
import { isGuessing } from '../data/fed-wrongly.ts'
import { samplesNeeded } from '../evaluate/paired.ts'
import type { Model } from '../graph/model.ts'
import { trainingWarning } from '../layers/training-mode.ts'
import type { Found } from './events.ts'
import type { Panel } from './panel.ts'
import type { Samples } from './samples.ts'

/** Judges by the samples held out, as they are and as they are chosen by. */
interface Panels {
  readonly plain: Panel
  readonly panel: Panel
}

export function lookAt(
  model: Model,
  info: ModelInfo,
  samples: Samples,
  { plain, panel }: Panels,
  maxDrop: number | null,
): Found {
  if (info.layers.length === 0)
    throw modelError('no-layers', 'the model has no layer with weights that mnc could quantise or prune', {
      next: 'mnc info shows what is in it',
    })
  const ops: Record<string, number> = {}
  for (const { op } of info.layers) ops[op] = (ops[op] ?? 0) + 1
  const half = [...model.graph.initializers()].some((v) => /^b?float16$/.test(v.type?.elem ?? ''))
  const training = trainingWarning(model)
  const remarks = [
    ...(half ? ['weights are 16-bit floats: the file computes in 32 bits inside'] : []),
    ...(training === null ? [] : [training]),
  ]
  const { top1 } = plain
  const { preprocess: p } = samples
  if (samples.labelled && top1 !== null) refuseGuessing(model, top1, p !== undefined && p !== null)
  return {
    ...{
      bytes: info.bytes,
      opset: info.opset,
      parameters: info.parameters,
      macs: info.macs,
      layers: info.layers.length,
      ops,
      remarks,
    },
    ...{ labelled: samples.labelled, top1, needed: maxDrop === null ? null : samplesNeeded(maxDrop) },
    samples: { fitted: samples.fitted, held: samples.held.count, test: samples.test.count },
    mixed: panel === plain ? null : panel.top1,
    latency: null,
    preprocess: p ? `mean ${p.mean.join(' ')}, std ${p.std.join(' ')}, scale ${p.scale}, ${p.size.join('x')}` : null,
  }
}

/** A float model that is no better was fed wrongly, or its labels are others. */
function refuseGuessing(model: Model, top1: number, pictures: boolean): void {
  const classes = model.graph.outputs[0]?.type?.dims?.at(-1)
  if (typeof classes !== 'number' || !isGuessing(top1, classes)) return
  throw usageError(
    `the float model is right on ${(top1 * 100).toFixed(1)} % of the samples, no better than guessing among ${classes} classes`,
    `${pictures ? 'say how its pixels were prepared (--mean, --std, --scale)' : 'give its inputs as in training'}, say in which order its classes are (--classes), or compare outputs alone (--no-labels)`,
  )
}
