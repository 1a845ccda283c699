/**
 * Messages between this process and the one that runs untrusted models: JSON with binary parts after it, over a pipe.
 *
 *   bytes of the JSON (uint32) | JSON, padded to 8 | parts, each padded to 8
 *
 * Node's own channel would copy arrays through its serializer.
 */
import type { Duplex } from 'node:stream'
import { Tensor } from '../../graph/tensor.ts'
import type { ElementType } from '../../graph/types.ts'

export interface Frame {
  readonly json: unknown
  readonly parts: readonly Uint8Array[]
}

/** Where typed arrays may begin. */
const ALIGN = 8
const padding = (size: number): number => (ALIGN - (size % ALIGN)) % ALIGN
/** Of the JSON, and of all parts with their padding. */
const HEAD = 16

export function sendFrame(pipe: Duplex, { json, parts }: Frame): void {
  const text = Buffer.from(JSON.stringify({ json, sizes: parts.map((p) => p.length) }))
  const head = Buffer.alloc(HEAD)
  head.writeDoubleLE(text.length, 0)
  head.writeDoubleLE(
    parts.reduce((n, p) => n + p.length + padding(p.length), 0),
    8,
  )
  pipe.write(head)
  pipe.write(text)
  for (const part of parts) {
    pipe.write(part)
    if (padding(part.length) > 0) pipe.write(Buffer.alloc(padding(part.length)))
  }
}

/** Calls `arrived` for each frame that comes in. */
export function readFrames(pipe: Duplex, arrived: (frame: Frame) => void): void {
  let want = HEAD
  let into = Buffer.alloc(HEAD)
  let text = 0
  let at = 0
  const complete = (): void => {
    if (want === HEAD && text === 0) {
      text = into.readDoubleLE(0)
      want = text + into.readDoubleLE(8)
      // the parts begin aligned: the JSON ends where they do
      const lead = padding(text)
      into = Buffer.allocUnsafeSlow(lead + want).subarray(lead)
    } else {
      const message = into
      const { json, sizes } = JSON.parse(message.toString('utf8', 0, text)) as { json: unknown; sizes: number[] }
      let begin = text
      const parts = sizes.map((size) => {
        const part = message.subarray(begin, begin + size)
        begin += size + padding(size)
        return part
      })
      ;[want, text, into] = [HEAD, 0, Buffer.alloc(HEAD)]
      at = 0
      arrived({ json, parts })
      return
    }
    at = 0
  }
  pipe.on('data', (chunk: Buffer) => {
    for (let from = 0; from < chunk.length; ) {
      const count = Math.min(want - at, chunk.length - from)
      chunk.copy(into, at, from, from + count)
      at += count
      from += count
      if (at === want) complete()
    }
  })
}

export interface TensorHead {
  readonly name: string
  readonly type: ElementType
  readonly dims: readonly number[]
}

/** Tensors by name as heads for a frame's JSON and parts after it. */
export function packTensors(tensors: Readonly<Record<string, Tensor>>): { heads: TensorHead[]; parts: Uint8Array[] } {
  const entries = Object.entries(tensors)
  return {
    heads: entries.map(([name, t]) => ({ name, type: t.type, dims: t.dims })),
    parts: entries.map(([, t]) => t.bytes),
  }
}

export function unpackTensors(heads: readonly TensorHead[], parts: readonly Uint8Array[]): Record<string, Tensor> {
  return Object.fromEntries(heads.map(({ name, type, dims }, i) => [name, new Tensor(type, dims, parts[i]!)]))
}
