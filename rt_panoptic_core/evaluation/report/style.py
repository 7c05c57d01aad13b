"""Style and the few lines of script of every report."""

STYLE = """
:root { color-scheme: light dark; --back: #f5f6f8; --card: #ffffff; --ink: #1c2128; --soft: #5c6672;
  --line: #dde1e6; --accent: #2f6fdb; --good: #1a8f5a; --bad: #c8402f; --track: #e9ecf0;
  --heat: 47, 111, 219; --shade: rgb(28 33 40 / .3); }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2127; --ink: #e6e9ed;
  --soft: #9aa5b1; --line: #323941; --accent: #6ea2f5; --good: #4fc38d; --bad: #f07a68;
  --track: #2a3038; --heat: 110, 162, 245;
  --shade: rgb(200 215 235 / .35); } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.5rem; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; padding-bottom: 14px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .3rem; }
h3 { font-size: .95rem; margin: 0 0 .5rem; color: var(--soft); font-weight: 600; }
.subtitle { margin: .3rem 0 0; color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: .3rem 2rem; margin: .9rem 0 0; }
.facts div { min-width: 0; } .facts dt { color: var(--soft); font-size: .78rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
nav { position: sticky; top: 0; z-index: 2; background: var(--back); border-bottom: 1px solid var(--line);
  display: flex; gap: 1.2rem; overflow-x: auto; padding: 9px max(20px, calc((100vw - 1200px) / 2)); }
nav a { color: var(--soft); text-decoration: none; white-space: nowrap; font-size: .88rem; }
nav a:hover, nav a:focus { color: var(--accent); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 18px 20px 20px; margin: 18px 0; }
.note { color: var(--soft); margin: 0 0 1rem; max-width: 75ch; font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
.tile { background: var(--back); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.25; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile .name { color: var(--soft); font-size: .85rem; } .tile .more { color: var(--soft); font-size: .78rem; }
.tile.first b { color: var(--accent); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 22px; }
/* A shade at the right edge says that the table goes on there. At the table's end what scrolls with it, the
   first layer, lies on the shade. Names stay in sight while the rest of a row is scrolled. */
.scroll { overflow-x: auto; background:
    linear-gradient(to left, var(--card) 45%, transparent) right / 36px 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 16px 100% no-repeat scroll; }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; z-index: 1;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th { text-align: right; color: var(--soft); font-weight: 600; font-size: .78rem; padding: 4px 8px;
  white-space: nowrap; }
td { text-align: right; padding: 4px 8px; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:nth-child(2) { text-align: left; }
td.bar { width: 34%; min-width: 130px; padding-right: 14px; }
td.bar svg { display: block; width: 100%; height: 14px; }
tr.group td { color: var(--soft); font-size: .78rem; font-weight: 600; padding-top: 12px; border-top: 0; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin-right: .5em;
  vertical-align: -.05em; box-shadow: inset 0 0 0 1px rgb(128 128 128 / .4); }
.faint { color: var(--soft); }
svg.chart { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg .grid { stroke: var(--line); }
svg text.value { fill: var(--ink); } svg .track { fill: var(--track); }
.frames { display: grid; gap: 20px; }
figure { margin: 0; min-width: 0; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; }
.panels div { min-width: 0; } .panels span { color: var(--soft); font-size: .75rem; }
.panels img { display: block; width: 100%; height: auto; border-radius: 6px;
  cursor: zoom-in; background: #000; }
figcaption { margin-bottom: .35rem; font-size: .88rem; overflow-wrap: anywhere; }
figcaption b { font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .85rem;
  color: var(--soft); margin: 0 0 1rem; }
.confusion th:nth-child(2) { text-align: right; }
.confusion { width: auto; font-size: .72rem; } .confusion td { padding: 0; min-width: 30px; height: 25px;
  text-align: center; border: 1px solid var(--card); }
.confusion th { font-weight: 500; padding: 0 6px; font-size: .74rem; text-align: right; }
.confusion thead th { height: 104px; vertical-align: bottom; padding: 0 0 6px; }
.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
.confusion td.own { outline: 1px solid var(--soft); outline-offset: -1px; }
dialog { border: 0; padding: 0; background: none; max-width: 98vw; max-height: 98vh; }
dialog img { display: block; max-width: 98vw; max-height: 98vh; border-radius: 6px; cursor: zoom-out; }
dialog::backdrop { background: rgb(0 0 0 / .8); }
@media (max-width: 700px) { .panels { grid-template-columns: 1fr; } section { padding: 14px; }
  header, main { padding-left: 12px; padding-right: 12px; }
  table { font-size: .82rem; } th, td { padding: 4px 5px; } td.bar { width: 20%; min-width: 52px; }
  th { white-space: normal; vertical-align: bottom; } .confusion th { white-space: nowrap; } }
@media print { nav { display: none; } section { break-inside: avoid; } }
"""

# A click on a picture shows it as large as the window; another click or Escape closes it.
SCRIPT = """
const zoom = document.getElementById("zoom");
document.querySelectorAll(".panels img").forEach(img => {
  img.tabIndex = 0;
  const show = () => { zoom.firstElementChild.src = img.src; zoom.showModal(); };
  img.addEventListener("click", show);
  img.addEventListener("keydown", event => { if (event.key === "Enter") show(); });
});
zoom.addEventListener("click", () => zoom.close());
"""
