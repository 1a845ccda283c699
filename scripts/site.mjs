/**
 * The documents as a site: `node scripts/site.mjs [DIR]` (build/site), after `npm run build`. It opens from the disk as well as from a
 * server, is searched without one, and holds the library's reference under library/ and the page for browsers under try/. Fails where
 * a link leads nowhere, and where an export of the library has no comment.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { Marked } from 'marked'
import { writeLibraryPages } from './library-pages.mjs'

const out = process.argv[2] ?? 'build/site'

/** What the bar at the side lists, in the order of reading. */
const bar = {
  Start: ['README.md'],
  Tutorials: ['pictures', 'audio', 'detector', 'transformer', 'own-loss', 'makefile'].map(
    (f) => `docs/tutorials/${f}.md`,
  ),
  Guide: ['compression', 'training', 'data', 'metrics', 'recipes', 'integer-networks', 'extending', 'browser'].map(
    docs,
  ),
  Details: ['shapes', 'devices', 'scale', 'zoo', 'reference', 'glossary'].map(docs),
  'mnc itself': ['CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', docs('architecture'), docs('decisions')],
}

function docs(name) {
  return `docs/${name}.md`
}

const sources = [
  ...new Set([
    ...Object.values(bar).flat(),
    ...readdirSync('docs', { recursive: true, encoding: 'utf8' }).map((f) => `docs/${f.replaceAll('\\', '/')}`),
    'bench/accuracy/README.md',
  ]),
].filter((f) => f.endsWith('.md'))

const pageOf = (source) => (source === 'README.md' ? 'index.html' : source.replace(/\.md$/, '.html'))
const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
/** As GitHub makes it of a heading. */
const idOf = (title) =>
  title
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

/** Links of pages, to be looked at when all are written. */
const links = []
const copied = new Set()
/** Sections of pages: what is searched. */
const sections = []

/** Where a link of `source` leads in the site. A file that is no page is copied. */
function target(source, href) {
  if (/^[a-z]+:/.test(href)) return href
  const [path, anchor] = href.split('#')
  const to = path === '' ? source : normalize(join(dirname(source), path)).replaceAll('\\', '/')
  let page = to
  if (sources.includes(to)) page = pageOf(to)
  else if (existsSync(to)) {
    page = /\.\w+$/.test(to) ? to : `${to}.txt`
    copied.add([to, page])
  }
  links.push({ source, href, page, anchor })
  const back = relative(dirname(pageOf(source)), page).replaceAll('\\', '/')
  return anchor === undefined ? back : `${path === '' ? '' : back}#${anchor}`
}

function render(source) {
  const text = readFileSync(source, 'utf8')
  const ids = []
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text: title }) {
        const id = idOf(title)
        ids.push(id)
        return `<h${depth} id="${id}">${this.parser.parseInline(tokens)}</h${depth}>\n`
      },
      link({ href, tokens }) {
        return `<a href="${escaped(target(source, href))}">${this.parser.parseInline(tokens)}</a>`
      },
    },
  })
  const body = marked
    .parse(text)
    .replaceAll('<table>', '<div class="wide"><table>')
    .replaceAll('</table>', '</table></div>')
  for (const part of text.split(/^(?=#{1,3} )/m)) {
    const title = /^#+ (.*)/.exec(part)?.[1]
    if (title)
      sections.push({
        page: `${pageOf(source)}#${idOf(title)}`,
        title,
        text: part.slice(title.length).replace(/[`*|#]/g, ' '),
      })
  }
  return { source, ids, body, title: /^# (.*)/m.exec(text)?.[1] ?? source }
}

const pages = sources.map(render)
const titles = new Map(pages.map((p) => [p.source, p.title]))

function barOf(source) {
  const from = dirname(pageOf(source))
  const item = (s) => {
    const here = s === source ? ' aria-current="page"' : ''
    return `<li><a href="${relative(from, pageOf(s))}"${here}>${escaped(titles.get(s))}</a></li>`
  }
  const groups = Object.entries(bar).map(([name, list]) => `<h2>${name}</h2><ul>${list.map(item).join('')}</ul>`)
  const more = { Library: ['library', 'Reference'], 'In the browser': ['try', 'Try it'] }
  const others = Object.entries(more).map(
    ([name, [at, text]]) =>
      `<h2>${name}</h2><ul><li><a href="${relative(from, `${at}/index.html`)}">${text}</a></li></ul>`,
  )
  return [...groups, ...others].join('')
}

rmSync(out, { recursive: true, force: true })
for (const { source, body, title } of pages) {
  const page = pageOf(source)
  const root = relative(dirname(page), '.') || '.'
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)} - mnc</title>
<link rel="stylesheet" href="${root}/site.css">
<script defer src="${root}/search-index.js"></script>
<script defer src="${root}/search.js" data-root="${root}"></script>
</head>
<body>
<nav><input id="search" type="search" placeholder="Search" aria-label="Search"><ol id="found"></ol>${barOf(source)}</nav>
<main>${body}</main>
</body>
</html>
`
  mkdirSync(dirname(join(out, page)), { recursive: true })
  writeFileSync(join(out, page), html)
}
for (const [from, to] of copied) {
  mkdirSync(dirname(join(out, to)), { recursive: true })
  cpSync(from, join(out, to), { recursive: true })
}
for (const file of ['site.css', 'search.js']) copyFileSync(join('site', file), join(out, file))
const library = await writeLibraryPages(join(out, 'library'), '../index.html')
for (const section of library.sections) sections.push({ ...section, page: `library/${section.page}` })
writeFileSync(join(out, 'search-index.js'), `window.sections = ${JSON.stringify(sections)}\n`)
process.argv[2] = join(out, 'try')
await import('./web-page.mjs')

const idsOf = new Map(pages.map((p) => [pageOf(p.source), new Set(p.ids)]))
const broken = links.filter(
  ({ page, anchor }) =>
    !existsSync(join(out, page)) || (anchor !== undefined && idsOf.get(page)?.has(anchor) === false),
)
const faults = [...broken.map(({ source, href }) => `${source}: ${href} leads nowhere`), ...library.faults]
for (const fault of faults) console.error(fault)
process.exitCode = faults.length > 0 ? 1 : 0
