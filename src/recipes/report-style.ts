/** The style sheet of a report. Text and background differ by 7:1 and more in both schemes, drawings by 3:1. */
export const css = `
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21; --muted: #5a5f66; --line: #d5d8dc;
  --one: #2563b0; --two: #b8560b; --three: #2c7a3f; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --text: #e6e8eb; --muted: #a3a9b1; --line: #3a4048;
    --one: #74a9ec; --two: #eb9a53; --three: #73c088; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 50rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
.lead { font-size: 1.05rem; margin: 0; }
figure { margin: 0 0 1rem; }
figcaption, footer, .note { color: var(--muted); font-size: .85rem; overflow-wrap: anywhere; }
svg { display: block; max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide svg { max-width: none; }
.grid { display: grid; gap: 1rem; }
.two { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.three { grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
td.w { min-width: 5rem; max-width: 26rem; overflow-wrap: break-word; }
.n { text-align: right; white-space: nowrap; }
summary { cursor: pointer; }
footer { margin-top: 2rem; }
@media print { :root { --back: #fff; --text: #000; } details { display: block; } }
`
