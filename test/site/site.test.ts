/** The documents as a site: every link of every page leads somewhere, and it is searched and read from the disk, asking nobody. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import test, { after } from 'node:test'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { browser } from '../support/page-looks.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-site-'))
after(() => rmSync(folder, { recursive: true }))
const site = join(folder, 'site')
execFileSync(process.execPath, ['scripts/site.mjs', site])

test('every page is there, and every link and anchor leads somewhere', () => {
  const pages = readdirSync(site, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.html'))
  assert.ok(pages.length > 25, `${pages.length}`)
  for (const f of readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.md')))
    assert.ok(pages.includes(join('docs', f.replace('.md', '.html'))), f)
  let links = 0
  for (const page of pages) {
    const html = readFileSync(join(site, page), 'utf8')
    for (const [, link = ''] of html.matchAll(/(?:href|src)="([^"]*)"/g)) {
      if (/^https?:/.test(link)) continue
      links++
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? join(site, page) : resolve(join(site, dirname(page)), path)
      assert.ok(existsSync(target), `${page}: ${link}`)
      if (anchor) assert.ok(readFileSync(target, 'utf8').includes(`id="${anchor}"`), `${page}: ${link}`)
    }
  }
  assert.ok(links > 800, `${links}`)
})

test('every export of the library has a page, and is found by the search', async () => {
  const library = await import('../../src/index.ts')
  const index = readFileSync(join(site, 'search-index.js'), 'utf8').replace(/^window\.sections = /, '')
  const sections: { page: string; title: string; text: string }[] = JSON.parse(index)
  for (const name of Object.keys(library)) {
    const section = sections.find((s) => s.title === name && s.page.startsWith('library/'))
    assert.ok(section && section.text.length > 8 && existsSync(join(site, section.page)), name)
  }
  const page = readFileSync(join(site, 'library/interfaces/index.TrainRun.html'), 'utf8')
  assert.match(page, /Data and options of .*train/)
})

test('a link that leads nowhere, and an export without a comment, fail the build and are named', () => {
  const copy = join(folder, 'copy')
  mkdirSync(copy)
  for (const name of ['docs', 'scripts', 'site', 'web', 'bench/accuracy', 'examples', 'schemas', 'dist'])
    cpSync(name, join(copy, name), { recursive: true })
  for (const name of ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'package.json', 'tsconfig.json'])
    cpSync(name, join(copy, name))
  symlinkSync(resolve('node_modules'), join(copy, 'node_modules'))
  writeFileSync(
    join(copy, 'docs/shapes.md'),
    '# Shapes\n\n[a](absent.md) [b](data.md#no-such-heading) [c](data.md#sound)\n',
  )
  const more =
    '/** As {@link nowhere} says. */\nexport declare const said: number\nexport declare const unsaid: number\n'
  appendFileSync(join(copy, 'dist/index.d.ts'), more)
  const { status, stderr } = spawnSync(process.execPath, ['scripts/site.mjs'], { cwd: copy, encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /docs\/shapes\.md: absent\.md leads nowhere/)
  assert.match(stderr, /docs\/shapes\.md: data\.md#no-such-heading leads nowhere/)
  assert.doesNotMatch(stderr, /#sound/)
  assert.match(stderr, /index: unsaid has no comment/)
  assert.match(stderr, /"nowhere"/)
  assert.doesNotMatch(stderr, /: said has no comment/)
})

test('it is searched without a server, and fits narrow windows', { skip: !browser && 'no Chromium' }, async (t) => {
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  const chrome = await chromium.launch({ executablePath: browser!, args })
  t.after(() => chrome.close())
  const page = await chrome.newPage()
  const foreign: string[] = []
  page.on('request', (r) => void (r.url().startsWith('file:') || foreign.push(r.url())))
  const broken: string[] = []
  page.on('pageerror', (e) => broken.push(String(e)))
  await page.goto(pathToFileURL(join(site, 'docs/tutorials/audio.html')).href)
  await page.fill('#search', 'webda sha')
  const first = page.locator('#found a').first()
  assert.equal(await first.textContent(), 'WebDataset shards')
  await first.click()
  await page.waitForURL(/docs\/data\.html#webdataset-shards$/)
  await page.fill('#search', 'checkModels')
  await page.locator('#found a').first().click()
  await page.waitForURL(/library\/functions\/index\.checkModels\.html$/)
  await page.getByText('mnc: documents').click()
  await page.waitForURL(/\/index\.html$/)
  await page.fill('#search', 'nothing-like-this')
  assert.equal(await page.locator('#found a').count(), 0)
  for (const width of [400, 1400])
    for (const path of ['index.html', 'docs/reference.html', 'docs/tutorials/detector.html', 'library/index.html']) {
      await page.setViewportSize({ width, height: 800 })
      await page.goto(pathToFileURL(join(site, path)).href)
      assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width, `${path} at ${width}`)
    }
  assert.deepEqual(broken, [])
  assert.deepEqual(foreign, [])
})
