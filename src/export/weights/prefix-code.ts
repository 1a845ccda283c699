/**
 * Prefix codes for the symbols of a decode (masks, low-bit values), of the kind that standard operators can undo for all
 * symbols at once: Huffman's lengths, limited to `longest` by package-merge (Larmore and Hirschberg, "A fast algorithm for
 * optimal length-limited Huffman codes", J. ACM 37, 1990), and canonical words, in which shorter words are smaller numbers.
 *
 * The words are not stored one after the other but by bit: the first `shortest` bits of all symbols as planes, then level by
 * level one more bit of those symbols whose words go on. With T(l) the first number of l bits that is no whole word,
 *
 *   open(l) = code >= T(l),   code = code + open code + bit of the next level where open
 *
 * and since T grows, the numbers of words of different lengths differ: a table gives the symbol for each.
 */

export interface PrefixCode {
  /** Bits of the shortest and longest word. */
  readonly shortest: number
  readonly longest: number
  /** Length of each symbol's word; 0 for symbols that do not occur. */
  readonly lengths: Uint8Array
  /** T above, by length. */
  readonly open: readonly number[]
  /** Each symbol's word. */
  readonly words: Uint32Array
  /** The symbol of each word, by number; 0 where there is none. */
  readonly symbols: readonly number[]
  /** Of all words together. */
  readonly bits: number
}

/** The code with the fewest bits whose words have at most `longest` of them; null where no such code tells the symbols apart. */
export function prefixCode(counts: ArrayLike<number>, longest: number): PrefixCode | null {
  const lengths = codeLengths(counts, longest)
  if (!lengths) return null
  const present = lengths.filter((l) => l > 0)
  const [least, most] = [Math.min(...present), Math.max(...present)]
  const words = new Uint32Array(lengths.length)
  const symbols: number[] = []
  const open: number[] = [0]
  let next = 0
  for (let l = 1; l <= most; l++) {
    next *= 2
    for (const [symbol, length] of lengths.entries()) {
      if (length !== l) continue
      words[symbol] = next
      symbols[next++] = symbol
    }
    open.push(next)
  }
  return {
    shortest: least,
    longest: most,
    lengths,
    open,
    words,
    symbols: Array.from(symbols, (s) => s ?? 0),
    bits: lengths.reduce((sum, l, s) => sum + l * counts[s]!, 0),
  }
}

/** Package-merge: `longest` rounds of pairing the cheapest packages, of which each symbol joins as many as its word has bits. */
function codeLengths(counts: ArrayLike<number>, longest: number): Uint8Array | null {
  const lengths = new Uint8Array(counts.length)
  const leaves = Array.from(counts, (weight, symbol) => ({ weight, symbols: [symbol] }))
    .filter((leaf) => leaf.weight > 0)
    .sort((a, b) => a.weight - b.weight || a.symbols[0]! - b.symbols[0]!)
  if (leaves.length === 0 || leaves.length > 2 ** longest) return null
  if (leaves.length === 1) {
    lengths[leaves[0]!.symbols[0]!] = 1
    return lengths
  }
  let packages: typeof leaves = []
  for (let round = 0; round < longest; round++) {
    const merged = [...leaves, ...packages].sort((a, b) => a.weight - b.weight)
    packages = []
    for (let i = 0; i + 1 < merged.length; i += 2) {
      const [a, b] = [merged[i]!, merged[i + 1]!]
      packages.push({ weight: a.weight + b.weight, symbols: [...a.symbols, ...b.symbols] })
    }
  }
  for (const { symbols } of packages.slice(0, leaves.length - 1)) for (const s of symbols) lengths[s]!++
  return lengths
}

/** The bits that store `symbols`: `shortest` planes, then of each level a 0 and one bit for each symbol that is open. */
export function codeBits(symbols: ArrayLike<number>, code: PrefixCode): { bits: Uint8Array; levels: number[] } {
  const { shortest, longest, lengths, words } = code
  const n = symbols.length
  const levels: number[] = []
  for (let l = shortest; l < longest; l++) {
    let open = 1
    for (let i = 0; i < n; i++) if (lengths[symbols[i]!]! > l) open++
    levels.push(open)
  }
  const bits = new Uint8Array(shortest * n + levels.reduce((a, b) => a + b, 0))
  let at = 0
  const put = (symbol: number, l: number): void => {
    bits[at++] = (words[symbol]! >> (lengths[symbol]! - l - 1)) & 1
  }
  for (let l = 0; l < shortest; l++) for (let i = 0; i < n; i++) put(symbols[i]!, l)
  for (let l = shortest; l < longest; l++) {
    at++
    for (let i = 0; i < n; i++) if (lengths[symbols[i]!]! > l) put(symbols[i]!, l)
  }
  return { bits, levels }
}

/** How often each of `size` symbols occurs. */
export function countSymbols(symbols: ArrayLike<number>, size: number): Uint32Array {
  const counts = new Uint32Array(size)
  for (let i = 0; i < symbols.length; i++) counts[symbols[i]!]!++
  return counts
}
