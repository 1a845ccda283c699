/**
 * A folder of WAV files, each a sample: class sub-folders, or a file of labels, or none (labelled-files.ts). They are an array
 * `audio` [samples, length] of floats, all at one rate and of one length, read from the files as they are needed:
 *
 *   rate     the files' own, which has to be the same throughout, or --sample-rate, to which others are resampled
 *            (resample-sound.ts)
 *   length   --seconds, or that of the longest file. Longer ones are cut, shorter ones end in silence
 */
import { usageError } from '../../base/errors.ts'
import { ArraySet, type Column, LABELS } from '../array-set.ts'
import type { Split } from '../dataset.ts'
import type { ReadOptions } from '../read-options.ts'
import { resampledLength, SoundResampler } from '../resample-sound.ts'
import { memoryRows, type Rows } from '../rows.ts'
import type { FileKind } from './folder-tree.ts'
import { labelledFiles } from './labelled-files.ts'
import { readWav, readWavHeader, type WavHeader } from './wav.ts'

const soundFiles: FileKind = { format: 'wav', what: 'sounds', files: 'WAV files', pattern: /\.wave?$/i }

/** A usage error that names the file for one that cannot be read, and for rates that differ. */
export async function openSounds(folder: string, split: Split, how: ReadOptions): Promise<ArraySet> {
  const found = labelledFiles(folder, split, soundFiles)
  const paths = found.files.map((f) => f.path)
  const facts = new SoundFacts(paths[0]!, how.sampleRate)
  for (const path of paths) facts.add(path, readWavHeader(path))
  const { rate } = facts
  const length = how.seconds === undefined ? facts.longest : Math.max(1, Math.round(how.seconds * rate))
  const audio: Column = {
    ...{ name: 'audio', elem: 'float32', dims: [length], rows: soundRows(paths, rate, length), file: folder },
    fileOf: (row) => paths[row]!,
    remedy: 'cut or pad the sounds with --seconds S',
  }
  const numbers = new Uint8Array(Int32Array.from(found.files, (f) => f.label).buffer)
  const labels: Column = { name: LABELS, elem: 'int32', dims: [], rows: memoryRows(numbers, 4), file: folder }
  return ArraySet.of({
    ...{ name: `wav:${folder}#${split}`, split, map: how.map, sampleRate: rate },
    columns: found.isLabelled ? [audio, labels] : [audio],
    ...(found.isLabelled && { classNames: found.classNames, classes: found.classes }),
    notes: [...found.notes, facts.note(length)],
  })
}

/** Files decoded for each row: nothing of them is kept. */
function soundRows(paths: readonly string[], rate: number, length: number): Rows {
  const resamplers = new Map<number, SoundResampler>()
  const row = (path: string): Float32Array => {
    const { rate: own, mono } = readWav(path)
    if (own === rate) return mono.subarray(0, length)
    const resampler = resamplers.get(own) ?? new SoundResampler(own, rate)
    resamplers.set(own, resampler)
    return resampler.run(mono, length)
  }
  return {
    count: paths.length,
    width: length * 4,
    readInto(out, first) {
      out.fill(0)
      for (let at = 0, i = first; at < out.length; at += length * 4, i++) {
        const { buffer, byteOffset, byteLength } = row(paths[i]!)
        out.set(new Uint8Array(buffer, byteOffset, byteLength), at)
      }
    },
  }
}

/** What is found out about the files of a set, one by one. */
class SoundFacts {
  readonly rate: number
  readonly #first: string
  readonly #declared: boolean
  /** Samples of each file at the set's rate. */
  readonly #lengths: number[] = []
  #mixed = 0
  #resampled = 0

  constructor(first: string, declared: number | undefined) {
    this.#first = first
    this.#declared = declared !== undefined
    this.rate = declared ?? readWavHeader(first).rate
  }

  add(path: string, { rate, channels, frames }: WavHeader): void {
    if (rate !== this.rate && !this.#declared)
      throw usageError(
        `${path} is at ${rate} Hz, but ${this.#first} at ${this.rate} Hz`,
        'bring all to one rate with --sample-rate HZ',
      )
    if (channels > 1) this.#mixed++
    if (rate !== this.rate) this.#resampled++
    this.#lengths.push(resampledLength(frames, rate, this.rate))
  }

  get longest(): number {
    return this.#lengths.reduce((a, b) => Math.max(a, b), 0)
  }

  note(length: number): string {
    const counted = [
      [this.#lengths.filter((n) => n > length).length, 'longer: cut'],
      [this.#lengths.filter((n) => n < length).length, 'shorter: silence behind them'],
      [this.#resampled, 'at another rate: resampled'],
      [this.#mixed, 'of several channels: their mean'],
    ] as const
    const all = counted.flatMap(([n, what]) => (n > 0 ? [`${n} ${what}`] : []))
    const size = `sounds of ${length} samples at ${this.rate} Hz (${Number((length / this.rate).toFixed(3))} s)`
    return all.length > 0 ? `${size}; of ${this.#lengths.length} ${all.join(', ')}` : size
  }
}
