/**
 * Arrays that are members of tar shards, one a sample: NAME.npy. They stay where they are, and are read when they are needed;
 * 10 bytes a sample are kept. Each has the type and the shape of the first.
 */
import { DataFile } from '../../base/data-file.ts'
import { type MncError, usageError } from '../../base/errors.ts'
import { readPart } from '../../base/files.ts'
import { elementCount, elementTypes } from '../../graph/types.ts'
import type { Column } from '../array-set.ts'
import type { Rows } from '../rows.ts'
import { keptScratch } from '../scratch.ts'
import { elementOf, type NumpyHeader, readHeader } from './npy.ts'
import type { ShardSample } from './shards.ts'
import type { Archive, TarMember } from './tar.ts'

/** numpy pads a header to 64 bytes, and it takes 128 unless names are long. */
const HEAD = 4096

class MemberColumn {
  readonly #name: string
  readonly #header: NumpyHeader
  readonly #shards: Archive[] = []
  readonly #shardOf: number[] = []
  readonly #offsets: number[] = []

  constructor(name: string, header: NumpyHeader) {
    this.#name = name
    this.#header = header
  }

  add(archive: Archive, { name, offset }: TarMember, header: NumpyHeader): void {
    const { type, dims } = this.#header
    const form = (t: string, d: readonly number[]): string => `${t}[${d.join(', ')}]`
    if (header.type !== type || header.dims.join() !== dims.join())
      throw usageError(
        `${archive.path}: '${name}' is ${form(elementOf[header.type], header.dims)}, and ${form(elementOf[type], dims)} in the first sample`,
        'samples need equal shapes: pad or cut them',
      )
    if (this.#shards.at(-1) !== archive) this.#shards.push(archive)
    this.#shardOf.push(this.#shards.length - 1)
    this.#offsets.push(offset + header.offset)
  }

  column(): Column {
    const { type, dims } = this.#header
    const elem = elementOf[type]
    const width = (elementCount(dims) * elementTypes[elem].bits) / 8
    const [shards, shardOf] = [this.#shards, this.#shardOf]
    const fileOf = (row: number): string => shards[shardOf[row]!]!.path
    return { name: this.#name, elem, dims, rows: this.#rows(width), file: shards[0]!.path, fileOf }
  }

  #rows(width: number): Rows {
    const files = this.#shards.map((shard) => (shard.unpacked ? keptScratch() : new DataFile(shard.path)))
    const [shardOf, offsets] = [this.#shardOf, this.#offsets]
    return {
      count: offsets.length,
      width,
      readInto(out, first) {
        for (let at = 0, row = first; at < out.length; at += width, row++)
          files[shardOf[row]!]!.readInto(out.subarray(at, at + width), offsets[row]!)
      },
    }
  }
}

export class NpyMembers {
  readonly #columns = new Map<string, MemberColumn>()
  #samples = 0

  /** `lacking`: the error for a sample without an array that others have. */
  add(sample: ShardSample, lacking: (sample: ShardSample, what: string) => MncError): void {
    const { shard, members } = sample
    for (const name of this.#columns.keys())
      if (!members.has(`${name}.npy`) && !(name === 'npy' && members.has('npy')))
        throw lacking(sample, `an array '${name}'`)
    for (const [kind, member] of members) {
      if (!/(^|\.)npy$/.test(kind)) continue
      const name = kind === 'npy' ? kind : kind.slice(0, -4)
      const fault = (message: string): MncError => usageError(`${shard}: ${message}`)
      const head = (): Buffer => readPart(shard, member.offset, Math.min(member.size, HEAD), member.descriptor)
      const header = readHeader({ bytes: member.size, head }, member.name, fault)
      if (elementCount(header.dims) === 0) throw fault(`there are no numbers in '${member.name}'`)
      const known = this.#columns.get(name)
      if (!known && this.#samples > 0)
        throw fault(`'${sample.key}' has an array '${name}', which the first sample has not`)
      const column = known ?? new MemberColumn(name, header)
      this.#columns.set(name, column)
      column.add(sample.archive, member, header)
    }
    this.#samples++
  }

  columns(): Column[] {
    return [...this.#columns.values()].map((c) => c.column())
  }
}
