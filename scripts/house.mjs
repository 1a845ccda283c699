/**
 * The state of the house: prints its rooms, what imports what, and the figures that a reader feels, and fails where one
 * is above its limit. Part of `make check`.
 *
 *     node scripts/house.mjs [--list FIGURE] [--root DIR]
 *
 * Rooms and the order of their floors are one table, house/rooms.json: a room may import from the floors below it and from
 * itself, a type or not; packages only where the table says. Limits only go down: set one to the new figure when work
 * brings that down. Only the arrows grow with a new room; a commit that raises their limit says what for.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  arrows,
  casts,
  circles,
  duplicates,
  operatorComparisons,
  operatorKeys,
  operatorNames,
  readSources,
  roomsOf,
} from './house/measure.mjs'

const LIMITS = {
  'files without a room': 0,
  'rooms without a file': 0,
  'imports of nothing': 0,
  'arrows between rooms': 333,
  'imports that go up or across': 0,
  'packages outside their place': 0,
  'circles of files': 0,
  'operator names outside src/ops': 83,
  'keys that name an operator outside src/ops': 140,
  'duplicates of six lines or more': 0,
  'casts through unknown': 0,
  'lines of the longest file': 383,
  'files above 400 lines': 0,
}

const { values } = parseArgs({ options: { root: { type: 'string', default: '.' }, list: { type: 'string' } } })
const { root } = values
const table = JSON.parse(readFileSync(join(root, 'scripts/house/rooms.json'), 'utf8'))

const sources = readSources(root)
const { rooms, homeless, empty } = roomsOf(sources, table)
const imports = arrows(sources, root)
const names = operatorNames(sources)
/** Files that `npm run generate` makes have any length, and repeat themselves. */
const written = sources.filter((s) => !s.file.endsWith('.generated.ts'))
const long = [...written].sort((a, b) => b.lines - a.lines)

const between = new Map()
const up = []
for (const { from, to } of imports) {
  const [a, b] = [rooms.get(from), rooms.get(to)]
  if (!a || !b || a.room === b.room) continue
  between.set(a.room, (between.get(a.room) ?? new Set()).add(b.room))
  if (b.floor >= a.floor) up.push(`${from} -> ${to} (${a.room} -> ${b.room})`)
}
const isAllowed = ({ from, package: name }) =>
  (table.packages[name] ?? []).some((place) => (place.endsWith('/') ? from.startsWith(place) : from === place))

const sited = ({ where, text }) => `${where}  ${text}`
/** What each figure counts, a line each. */
const found = {
  'files without a room': homeless,
  'rooms without a file': empty,
  'imports of nothing': imports.filter((i) => i.missing).map(({ from, missing }) => `${from} -> ${missing}`),
  'arrows between rooms': [...between].flatMap(([a, rooms]) => [...rooms].map((b) => `${a} -> ${b}`)).sort(),
  'imports that go up or across': up,
  'packages outside their place': imports
    .filter((i) => i.package && !isAllowed(i))
    .map(({ from, package: name }) => `${from} -> ${name}`),
  'circles of files': circles(sources, imports).map((files) => files.join(', ')),
  'operator names outside src/ops': operatorComparisons(sources, names).map(sited),
  'keys that name an operator outside src/ops': operatorKeys(sources, names).map(sited),
  'duplicates of six lines or more': duplicates(written).map(({ lines, places }) => `${lines}  ${places.join('  ')}`),
  'casts through unknown': casts(sources),
  'files above 400 lines': long.filter((s) => s.lines > 400).map((s) => `${s.lines}  ${s.file}`),
}
const figures = {
  ...Object.fromEntries(Object.entries(found).map(([figure, list]) => [figure, list.length])),
  'lines of the longest file': long[0]?.lines ?? 0,
}

if (values.list) {
  const list = found[values.list]
  if (!list) console.error(`no figure '${values.list}'; there are:\n${Object.keys(found).join('\n')}`)
  else console.log(list.join('\n'))
  process.exit(list ? 0 : 2)
}

console.log('room          floor  files   lines  imports from')
for (const [floor, group] of table.floors.entries())
  for (const room of Object.keys(group)) {
    const own = sources.filter((s) => rooms.get(s.file)?.room === room)
    const lines = own.reduce((n, s) => n + s.lines, 0)
    const counts = `${String(floor).padStart(5)} ${String(own.length).padStart(6)} ${String(lines).padStart(7)}`
    console.log(`${room.padEnd(13)} ${counts}  ${[...(between.get(room) ?? [])].sort().join(' ')}`)
  }
const count = table.floors.reduce((n, group) => n + Object.keys(group).length, 0)
console.log(
  `${count} rooms on ${table.floors.length} floors, ${found['arrows between rooms'].length} arrows, ${sources.length} files`,
)
console.log(
  `longest: ${long
    .slice(0, 5)
    .map((s) => `${s.file} ${s.lines}`)
    .join(', ')}\n`,
)

let failed = false
for (const [figure, limit] of Object.entries(LIMITS)) {
  const isOver = figures[figure] > limit
  failed ||= isOver
  const verdict = isOver ? '  above the limit' : figures[figure] < limit ? '  lower the limit' : ''
  console.log(`${figure.padEnd(44)} ${String(figures[figure]).padStart(4)}  of ${limit}${verdict}`)
  if (isOver) for (const line of (found[figure] ?? []).slice(0, 20)) console.log(`    ${line}`)
}
if (failed) console.log('\nscripts/house.mjs --list FIGURE names all; CONTRIBUTING.md says what is expected')
process.exitCode = failed ? 1 : 0
