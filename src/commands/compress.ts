/** `mnc compress`: say the goal, get the file. */
import { optionsIn, parseOptions } from '../base/options.ts'
import { type CompressOptions, compressOptions } from '../compress/compress-options.ts'
import type { CompressEvent, CompressResult } from '../compress/events.ts'
import type { Point } from '../compress/point.ts'
import { RANDOM } from '../data/random-options.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { shardOptions } from '../shards/shard-options.ts'
import { defineCommand, output } from './define-command.ts'
import { interruptible } from './interrupt.ts'
import { openModel } from './open-model.ts'
import { outputBeside } from './pass.ts'
import { dataOptions, dataOptionWith, pixelOptions } from './pixel-options.ts'

export const compress = defineCommand({
  name: 'compress',
  summary: 'Say the goal, get the file: quantises, fine-tunes where it must, exports, checks, and reports',
  arguments: [{ name: 'MODEL', description: 'An .onnx file; not with --resume', optional: true }],
  options: {
    data: dataOptionWith('; both splits are used. random: made inputs', [RANDOM]),
    ...dataOptions,
    ...pixelOptions,
    ...sizeOptions,
    ...compressOptions,
    jobs: {
      ...shardOptions.jobs,
      description: 'Processes that make candidates and measure layers side by side, before they are needed',
    },
    shard: {
      ...shardOptions.shard,
      description: 'Do share I of N of what can be done beforehand, in the work folder, which all shares use, and stop',
    },
    work: { type: 'string', placeholder: 'DIR', description: 'Work folder; OUT.work by default' },
    resume: {
      type: 'string',
      placeholder: 'DIR',
      description: 'Go on in this work folder, with the model, data and options of its run',
    },
    pick: { type: 'integer', minimum: 1, description: 'With --resume: write this point of the table, by its number' },
    dryRun: { type: 'boolean', default: false, description: 'Only look at the model and the data, and print the plan' },
    ...probeOptions,
    output: { ...output, description: 'Output file; OUT.recipe.json and OUT.report.html are written beside it' },
  },
  examples: [
    'mnc compress net.onnx --data folder:DIR --max-drop 1% -o small.onnx',
    'mnc compress net.onnx --data cifar10:DIR --goal bytes=100KB --time 60m -o small.onnx',
    'mnc compress --resume small.work --pick 2 -o other.onnx',
  ],
  async run([path], given, io) {
    const { usageError, MncError } = await import('../base/errors.ts')
    const { CompressView, describePlan, describeResult } = await import('./compress-view.ts')
    const { compress, compressShare } = await import('../compress/compress.ts')
    const { nameFor, takePoint } = await import('../compress/take.ts')
    const { requireRequest, Work } = await import('../compress/work.ts')
    const { cacheFolder } = await import('../runtime/ort/session-cache.ts')
    const { parseShard } = await import('../shards/shard.ts')
    const { threadsOf, inShares } = await import('./processes.ts')
    const { work: folder, resume, pick, dryRun, probeSeconds: _, output: out, jobs, shard, ...rest } = given
    if (jobs > 1 && shard !== undefined) throw usageError('--shard and --jobs divide the same work', 'give one of them')
    if (resume !== undefined && path !== undefined)
      throw usageError('--resume goes on with the model of its work folder', 'leave out the model, or --resume')
    if (resume === undefined && path === undefined)
      throw usageError('no model is given', 'mnc compress net.onnx --data REF')
    if (pick !== undefined && resume === undefined)
      throw usageError('--pick takes a point of a work folder', 'name the folder with --resume DIR')
    const old = resume === undefined ? null : await requireRequest(new Work(resume))
    // what is made depends on the threads: those of all processes are the same, and those that the folder's run began with
    const options = old
      ? { ...rest, ...pickDefined(old.options), ...said(rest) }
      : { ...rest, threads: threadsOf(jobs, rest.threads) }
    const source = old?.model ?? path!
    const data = old?.data ?? rest.data
    if (!data)
      throw usageError(
        '--data is missing',
        'e.g. --data cifar10:DIR or folder:DIR, or --data random where there are none',
      )
    const target = out ?? old?.output ?? outputBeside(source, 'compressed')
    if (target === '-')
      throw usageError('three files are written, which do not fit on standard output', 'name one with -o')
    const model = await openModel(source, io)
    const view = new CompressView(io)
    const stop = interruptible()
    try {
      const run = {
        ...{
          data,
          source,
          workdir: resume ?? folder ?? `${target.replace(/\.onnx$/, '')}.work`,
          name: nameFor(target),
        },
        options: optionsIn(compressOptions, options),
        reading: optionsIn(dataOptions, options),
        pixels: optionsIn(pixelOptions, options),
        sizes: optionsIn(sizeOptions, options),
        ...{ seed: old?.seed ?? io.seed, cache: cacheFolder(), signal: stop.signal, output: target },
      }
      const show = (event: CompressEvent): void => {
        if (event.kind === 'run' && event.event.kind === 'train' && event.event.event.kind === 'step') stop.arm()
        view.show(event)
      }
      if (dryRun) {
        await compress(model, { ...run, dryRun: true }, show)
        const { found, plan } = view
        io.result({ found, plan }, () => describePlan(found, plan))
        return
      }
      if (shard !== undefined) {
        const items = await compressShare(model, run, parseShard(shard), show)
        view.end()
        io.result({ work: run.workdir, items }, run.workdir)
        return
      }
      const beforehand = jobs > 1 ? () => inShares('compress', jobs, options.threads, () => [], io) : undefined
      const result = await compress(model, { ...run, beforehand }, show)
      view.end()
      const point = pick === undefined ? result.chosen : pointAt(result, pick)
      const taken = await takePoint(result, point, target)
      io.result({ ...taken, point: point.name, ...result }, (width) => describeResult(result, point, taken, width))
      if (pick !== undefined || result.verdict.met) return
      throw new MncError(`what was asked for is not reached: ${result.verdict.misses.join('; ')}`, {
        ...{ code: 'goal-missed', blame: 'gate', file: target },
        ...(result.advice.length > 0 && { next: `it is the nearest point; ${result.advice.join(', or ')}` }),
      })
    } finally {
      view.end()
      stop.disarm()
    }

    function pointAt({ points }: CompressResult, k: number): Point {
      const point = points[k - 1]
      if (point) return point
      throw usageError(`--pick ${k}: the last point is ${points.length}`, 'the table of the report numbers them')
    }
  },
})

/** What differs from the defaults: on top of what the folder's run was asked for. */
const said = (own: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(own).filter(
      ([k, v]) =>
        v !== undefined &&
        k in compressOptions &&
        v !== parseOptions(compressOptions, {}, 'compress')[k as keyof CompressOptions],
    ),
  )

const pickDefined = (o: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined))
