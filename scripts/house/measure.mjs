/**
 * What is known of a tree of sources: which file lies in which room, what imports what, which names of operators are
 * written outside src/ops, which lines occur twice. Rooms are declared in rooms.json.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { importsOf, scan } from './scan.mjs'

/** Lines of code that make a duplicate. */
const DUPLICATE_LINES = 6

export function readSources(root) {
  return readdirSync(join(root, 'src'), { recursive: true })
    .map((f) => `src/${String(f).replaceAll('\\', '/')}`)
    .filter((f) => /\.(ts|mjs)$/.test(f) && !f.endsWith('.d.ts'))
    .sort()
    .map((file) => {
      const text = readFileSync(join(root, file), 'utf8')
      return { file, text, lines: text.split('\n').length - 1, ...scan(text) }
    })
}

/** The room of each file: that of the longest declared folder (or file) that it lies in. */
export function roomsOf(sources, { floors }) {
  const places = floors.flatMap((rooms, floor) =>
    Object.entries(rooms).flatMap(([room, { files }]) =>
      (files ?? [`${room}/`]).map((place) => ({ place: `src/${place}`, room, floor })),
    ),
  )
  places.sort((a, b) => b.place.length - a.place.length)
  const found = new Map()
  const homeless = []
  for (const { file } of sources) {
    const home = places.find(({ place }) => (place.endsWith('/') ? file.startsWith(place) : file === place))
    if (home) found.set(file, home)
    else homeless.push(file)
  }
  return { rooms: found, homeless, empty: places.filter((p) => ![...found.values()].includes(p)).map((p) => p.place) }
}

/** Every import: { from, to } of two files, or { from, package }. */
export function arrows(sources, root) {
  return sources.flatMap((source) =>
    importsOf(source).flatMap((name) => {
      const from = source.file
      if (name.startsWith('node:')) return []
      if (!name.startsWith('.'))
        return [
          {
            from,
            package: name
              .split('/')
              .slice(0, name.startsWith('@') ? 2 : 1)
              .join('/'),
          },
        ]
      const to = posix.join(posix.dirname(from), name)
      return to.startsWith('src/') && existsSync(join(root, to)) ? [{ from, to }] : [{ from, missing: to }]
    }),
  )
}

/** Groups of files that import one another in a circle, imports of types included. */
export function circles(sources, imports) {
  const next = new Map(sources.map(({ file }) => [file, []]))
  for (const { from, to } of imports) if (to) next.get(from)?.push(to)
  const [index, low, stack, groups] = [new Map(), new Map(), [], []]
  const visit = (file) => {
    index.set(file, index.size)
    low.set(file, index.get(file))
    stack.push(file)
    for (const to of next.get(file) ?? []) {
      if (!index.has(to)) visit(to)
      if (stack.includes(to)) low.set(file, Math.min(low.get(file), low.get(to)))
    }
    if (low.get(file) !== index.get(file)) return
    const group = stack.splice(stack.indexOf(file))
    if (group.length > 1 || next.get(file)?.includes(file)) groups.push(group.sort())
  }
  for (const { file } of sources) if (!index.has(file)) visit(file)
  return groups
}

/** Names of operators: what src/ops defines or lists, by the first word of a definition or as a key of its tables. */
export function operatorNames(sources) {
  const names = new Set()
  for (const { file, code, literals } of sources) {
    if (!file.startsWith('src/ops/')) continue
    for (const { kind, text } of literals)
      if (kind === 'string' && /^[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*$/.test(text)) names.add(text)
    for (const [, name] of code.matchAll(/\bop: '([A-Z]\w*)'/g)) names.add(name)
  }
  return names
}

/**
 * Where a node of the operator is made, its name is not a comparison: b.op('Conv', ...), graph.addNode({ op: 'Conv', ...
 * }), b.node({ ... }).
 */
const MADE = /(?:\.ops?\(\s*|\b(?:addN|n)ode\(\s*\{(?:[^{}]|\.\.\.\{[^{}]*)*\bop: )$/

/**
 * Where a name of an operator stands outside src/ops, however it is used (compared, in a set, a case, a key of a table
 * in quotes, in a regular expression or a part that a name is searched for), but for the making of nodes. A constant that
 * holds the name counts where it is written.
 */
export function operatorComparisons(sources, names) {
  return sources
    .filter(({ file }) => !file.startsWith('src/ops/'))
    .flatMap(({ file, code, literals }) => {
      const isName = ({ kind, text }) =>
        kind === 'regex' ? text.split(/[^A-Za-z0-9]+/).some((w) => names.has(w)) : names.has(text)
      const found = literals.filter((l) => isName(l) && !MADE.test(code.slice(Math.max(0, l.at - 200), l.at)))
      const parts = [...code.matchAll(/\.op\.(?:startsWith|endsWith|includes|indexOf|match|slice)\(/g)]
      return [
        ...found.map(({ at, text }) => ({ file, at, text })),
        ...parts
          .filter((m) => !found.some((l) => l.at >= m.index && l.at <= m.index + m[0].length))
          .map((m) => ({ file, at: m.index, text: m[0] })),
      ].map(({ at, text }) => ({ where: `${file}:${code.slice(0, at).split('\n').length}`, text }))
    })
}

/** Where a table outside src/ops has a name of an operator for a key, without quotes. */
export const operatorKeys = (sources, names) =>
  sources
    .filter(({ file }) => !file.startsWith('src/ops/'))
    .flatMap(({ file, code }) =>
      [...code.matchAll(/[{,]\s*(?:async\s+)?([A-Z]\w*)\s*(?=[:(])/g)]
        .filter(([, name]) => names.has(name))
        .map(({ index, 1: text }) => ({ where: `${file}:${code.slice(0, index).split('\n').length}`, text })),
    )

/** Blocks of DUPLICATE_LINES lines of code or more that occur in two places: { lines, places }. Imports do not count. */
export function duplicates(sources) {
  const all = []
  for (const { file, code } of sources) {
    const body = code.replace(/^(?:import|export)\b[^;\n]*?(?:\{[^}]*\})?[^;\n]*from '[^']*'$/gm, (m) =>
      m.replace(/[^\n]/g, ''),
    )
    for (const [i, line] of body.split('\n').entries()) {
      const text = line.trim().replace(/\s+/g, ' ')
      if (/\w/.test(text)) all.push({ text, file, line: i + 1 })
    }
    // nothing equals this: no block goes over the end of a file
    all.push({ text: `\0${file}`, file, line: 0 })
  }
  const starts = new Map()
  for (let i = 0; i + DUPLICATE_LINES <= all.length; i++) {
    const key = all
      .slice(i, i + DUPLICATE_LINES)
      .map((l) => l.text)
      .join('\n')
    starts.set(key, [...(starts.get(key) ?? []), i])
  }
  const found = []
  for (const places of starts.values())
    for (const [k, b] of places.entries())
      for (const a of places.slice(0, k)) {
        if (all[a - 1]?.text === all[b - 1]?.text) continue
        let n = DUPLICATE_LINES
        while (b + n < all.length && all[a + n].text === all[b + n].text) n++
        found.push({ lines: n, places: [a, b].map((i) => `${all[i].file}:${all[i].line}`) })
      }
  return found.sort((x, y) => y.lines - x.lines)
}

/** `as unknown as`, over however many lines it is written. */
export const casts = (sources) =>
  sources.flatMap(({ file, code }) =>
    [...code.matchAll(/\bas\s+(?:unknown|any)\s+as\b|(?<!\w)<unknown>/g)].map(
      (m) => `${file}:${code.slice(0, m.index).split('\n').length}`,
    ),
  )
