/** A stream that keeps what is written. */
import { Writable } from 'node:stream'

export class Sink extends Writable {
  text = ''
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}
