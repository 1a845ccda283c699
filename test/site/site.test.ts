/** The documents as a site: every link of every page leads somewhere, and it is searched and read from the disk, asking nobody. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
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

test('a link that leads nowhere fails the build and is named', () => {
  const copy = join(folder, 'copy')
  mkdirSync(copy)
  for (const name of ['docs', 'scripts', 'site', 'web', 'bench/accuracy', 'examples', 'schemas', 'dist/web.js'])
    cpSync(name, join(copy, name), { recursive: true })
  for (const name of ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'package.json'])
    cpSync(name, join(copy, name))
  symlinkSync(resolve('node_modules'), join(copy, 'node_modules'))
  writeFileSync(
    join(copy, 'docs/shapes.md'),
    '# Shapes\n\n[a](absent.md) [b](data.md#no-such-heading) [c](data.md#sound)\n',
  )
  const { status, stderr } = spawnSync(process.execPath, ['scripts/site.mjs'], { cwd: copy, encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /docs\/shapes\.md: absent\.md leads nowhere/)
  assert.match(stderr, /docs\/shapes\.md: data\.md#no-such-heading leads nowhere/)
  assert.doesNotMatch(stderr, /#sound/)
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
  await page.fill('#search', 'nothing-like-this')
  assert.equal(await page.locator('#found a').count(), 0)
  for (const width of [400, 1400])
    for (const path of ['index.html', 'docs/reference.html', 'docs/tutorials/detector.html']) {
      await page.setViewportSize({ width, height: 800 })
      await page.goto(pathToFileURL(join(site, path)).href)
      assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width, `${path} at ${width}`)
    }
  assert.deepEqual(broken, [])
  assert.deepEqual(foreign, [])
})
