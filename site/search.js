/** Searches the sections of all pages (search-index.js): every word has to occur, at the start of a word; titles count most. */
const { root } = document.currentScript.dataset
const field = document.getElementById('search')
const list = document.getElementById('found')
const MOST = 12

function score(section, words) {
  let sum = 0
  for (const word of words) {
    const start = new RegExp(`(^|[^\\p{L}\\p{N}])${word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`, 'giu')
    const inTitle = section.title.match(start)?.length ?? 0
    const inText = section.text.match(start)?.length ?? 0
    if (inTitle + inText === 0) return 0
    sum += 20 * inTitle + Math.min(inText, 10)
  }
  return sum
}

field.addEventListener('input', () => {
  const words = field.value.trim().split(/\s+/).filter(Boolean)
  const found = words.length === 0 ? [] : window.sections.map((s) => ({ s, points: score(s, words) }))
  const best = found.filter(({ points }) => points > 0).sort((a, b) => b.points - a.points)
  list.replaceChildren(
    ...best.slice(0, MOST).map(({ s }) => {
      const item = document.createElement('li')
      const link = Object.assign(document.createElement('a'), { href: `${root}/${s.page}`, textContent: s.title })
      const where = Object.assign(document.createElement('small'), { textContent: s.page.split('#')[0] })
      item.append(link, where)
      return item
    }),
  )
})
