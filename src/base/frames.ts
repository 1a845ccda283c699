/**
 * Messages between this process and one that it started: JSON with binary parts after it, over a pipe.
 *
 *   bytes of the JSON (uint32) | JSON, padded to 8 | parts, each padded to 8
 *
 * Node's own channel would copy arrays through its serializer.
 */
import type { Duplex } from 'node:stream'

export interface Frame {
  readonly json: unknown
  readonly parts: readonly Uint8Array[]
}

/** Where typed arrays may begin. */
const ALIGN = 8
const padding = (size: number): number => (ALIGN - (size % ALIGN)) % ALIGN
/** Of the JSON, and of all parts with their padding. */
const HEAD = 16

/** A frame's bytes, in pieces. */
export function* frameBytes({ json, parts }: Frame): Generator<Uint8Array, void, undefined> {
  const text = Buffer.from(JSON.stringify({ json, sizes: parts.map((p) => p.length) }))
  const head = Buffer.alloc(HEAD)
  head.writeDoubleLE(text.length, 0)
  head.writeDoubleLE(
    parts.reduce((n, p) => n + p.length + padding(p.length), 0),
    8,
  )
  yield head
  yield text
  for (const part of parts) {
    yield part
    if (padding(part.length) > 0) yield Buffer.alloc(padding(part.length))
  }
}

export function sendFrame(pipe: Duplex, frame: Frame): void {
  for (const bytes of frameBytes(frame)) pipe.write(bytes)
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
