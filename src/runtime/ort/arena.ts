/**
 * What onnxruntime's arena (BFC, with its defaults) comes to in memory that was written: it takes the smallest free piece that is
 * large enough from the first class of sizes that has one, cuts it if it is twice as large as needed, joins neighbours that are
 * free, and doubles what it asks the system for.
 */

/** Sizes are multiples of it. */
const GRAIN = 256
/** What it asks the system for first. */
const FIRST_REGION = 2 ** 20
/** A piece is cut also where this much would be left over. */
const LEAST_REST = 128 * 2 ** 20
const CLASSES = 21

interface Region {
  /** In the order of addresses. */
  readonly pieces: Piece[]
  /** How far it was ever written. */
  written: number
}

export interface Piece {
  readonly region: Region
  start: number
  size: number
  isFree: boolean
}

export class Arena {
  readonly #regions: Region[] = []
  #next = FIRST_REGION

  /** Bytes that were written at some time. */
  get written(): number {
    return this.#regions.reduce((sum, r) => sum + r.written, 0)
  }

  take(bytes: number): Piece {
    const size = Math.max(GRAIN, Math.ceil(bytes / GRAIN) * GRAIN)
    const piece = this.#find(size) ?? this.#extend(size)
    const rest = piece.size - size
    const { region, start } = piece
    if (piece.size >= 2 * size || rest >= LEAST_REST) {
      const { pieces } = region
      pieces.splice(pieces.indexOf(piece) + 1, 0, { region, start: start + size, size: rest, isFree: true })
      piece.size = size
    }
    piece.isFree = false
    region.written = Math.max(region.written, start + bytes)
    return piece
  }

  give(piece: Piece): void {
    const { pieces } = piece.region
    const i = pieces.indexOf(piece)
    const [before, after] = [pieces[i - 1], pieces[i + 1]]
    piece.isFree = true
    if (after?.isFree) {
      piece.size += after.size
      pieces.splice(i + 1, 1)
    }
    if (before?.isFree) {
      before.size += piece.size
      pieces.splice(i, 1)
    }
  }

  #find(size: number): Piece | null {
    let best: Piece | null = null
    for (const { pieces } of this.#regions)
      for (const p of pieces) if (p.isFree && p.size >= size && (!best || isBefore(p, best))) best = p
    return best
  }

  #extend(size: number): Piece {
    while (this.#next < size) this.#next *= 2
    const region: Region = { pieces: [], written: 0 }
    const piece: Piece = { region, start: 0, size: this.#next, isFree: true }
    region.pieces.push(piece)
    this.#regions.push(region)
    this.#next *= 2
    return piece
  }
}

const classOf = ({ size }: Piece): number => Math.min(CLASSES - 1, Math.floor(Math.log2(size / GRAIN)))

/** Of two that are large enough. Equal ones are taken in the order of regions and addresses, in which they are looked at. */
const isBefore = (a: Piece, b: Piece): boolean =>
  classOf(a) < classOf(b) || (classOf(a) === classOf(b) && a.size < b.size)
