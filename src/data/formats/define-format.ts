/**
 * What a data format is: one declaration. References, help, documentation and messages derive from it. A declaration imports
 * types only and loads what reads the files (../readers/) when it is asked to, so that `mnc --help` stays fast.
 */
import type { SampleSet } from '../array-set.ts'
import type { Split } from '../dataset.ts'
import type { ReadOptions } from '../read-options.ts'

export interface DataFormat {
  /** As `--data` names it. */
  readonly name: string
  /** What comes after the colon; null where nothing does. */
  readonly place: 'DIR' | 'FILE' | 'PATH' | null
  readonly summary: string
  /** Its samples are sounds, which have a rate and a length. */
  readonly isSound?: boolean
  /** A usage error that names the file for anything that is missing or damaged. */
  open(place: string, split: Split, how: ReadOptions): Promise<SampleSet>
}

export const defineFormat = (format: DataFormat): DataFormat => format

/** `cifar10:DIR`, or the name alone. */
export const formOf = ({ name, place }: DataFormat): string => (place === null ? name : `${name}:${place}`)
