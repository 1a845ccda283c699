/**
 * Parts of a report as one HTML page: styles and drawings inside, nothing fetched, no script; light or dark as the reader's
 * system says, and on paper.
 */
import { css } from './report-style.ts'

/** `sections` as `section` makes them; those without anything to say are left out. */
export const page = (
  title: string,
  lead: string,
  sections: readonly string[],
  version: string,
): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${text(title)}: report</title>
<style>${css}</style>
</head>
<body>
<main>
<h1>${text(title)}</h1>
<p class="lead">${text(lead)}</p>
${sections.filter((s) => s !== '').join('\n')}
<footer>mnc ${text(version)}</footer>
</main>
</body>
</html>
`

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
export const text = (s: string): string => s.replace(/[&<>"]/g, (c) => entities[c]!)
export const percent = (x: number, digits = 1): string => `${(x * 100).toFixed(digits)} %`
export const count = (n: number): string => n.toLocaleString('en')
export const kilobytes = (n: number): string =>
  n >= 1e6 ? `${Number((n / 1e6).toPrecision(3))} MB` : `${Number((n / 1e3).toPrecision(3))} kB`
export const number = (x: number): string => String(Number(x.toPrecision(4)))
export const small = (x: number): string => (x !== 0 && x < 1e-3 ? x.toExponential(1) : number(x))

export const section = (title: string, body: string): string =>
  body === '' ? '' : `<section>\n<h2>${text(title)}</h2>\n${body}\n</section>`

export const figure = (svg: string, caption: string): string =>
  `<figure>${svg.replace('<svg ', `<svg role="img" aria-label="${text(caption)}" `)}<figcaption>${text(caption)}</figcaption></figure>`

/** The first column names the row; the others are numbers, right-aligned, unless `words` lists them. */
export function table(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  words: readonly number[] = [],
): string {
  const side = (i: number): string => (i === 0 ? '' : words.includes(i) ? ' class="w"' : ' class="n"')
  const head = heads.map((h, i) => `<th scope="col"${side(i)}>${text(h)}</th>`).join('')
  const body = rows.map((r) => {
    const cells = r.map((c, i) => (i === 0 ? `<th scope="row">${text(c)}</th>` : `<td${side(i)}>${text(c)}</td>`))
    return `<tr>${cells.join('')}</tr>`
  })
  return `<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table></div>`
}
