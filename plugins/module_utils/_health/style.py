# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report page's look, in light and dark, without anything from outside (private: may change without notice)."""

from __future__ import annotations

HUES = 8  # colours of shards; a ninth shard starts again

STYLE = """
:root {
  color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --line: #e3e6eb; --ink: #1b2330; --soft: #5d6b7e;
  --sunk: #f0f2f5; --good: #1a8754; --good-bg: #e5f5ec; --bad: #c9302c; --bad-bg: #fdecea; --bad-line: #f0b7b3;
  --wait: #b26a00; --wait-bg: #fff3df; --h0: #3b6fd8; --h1: #12958f; --h2: #c9781a; --h3: #8a53c9;
  --h4: #c2447f; --h5: #5d8a1f; --h6: #2f8fc0; --h7: #8b6b4f;
}
@media (prefers-color-scheme:dark) {
  :root {
    --bg: #0f141b; --card: #171e27; --line: #2a3441; --ink: #e4e9f0; --soft: #94a3b5; --sunk: #1e2732;
    --good: #4cc38a; --good-bg: #14301f; --bad: #ff7b72; --bad-bg: #361a1b; --bad-line: #6b2b2c; --wait: #e0a44a;
    --wait-bg: #33260f; --h0: #6f9bf5; --h1: #3fc1ba; --h2: #e8a04b; --h3: #b48af0; --h4: #ec79ab; --h5: #92c450;
    --h6: #62b8e4; --h7: #bb9a7d;
  }
}
* { box-sizing: border-box }
body {
  margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
}
main { max-width: 1184px; margin: 0 auto; padding: 32px 32px 64px }
h1 { font-size: 27px; line-height: 1.25; margin: 0; letter-spacing: -.01em }
h2 { font-size: 17px; margin: 38px 0 12px }
h2 small { font-weight: 400; font-size: 14px; color: var(--soft); margin-left: 8px }
.head { display: flex; gap: 18px; align-items: center; flex-wrap: wrap }
.badge { width: 54px; height: 54px; flex: none }
.badge circle { fill: var(--good) }
.badge.bad circle { fill: var(--bad) }
.badge path { stroke: var(--card); stroke-width: 4.5; fill: none; stroke-linecap: round; stroke-linejoin: round }
.sub { color: var(--soft); margin: 3px 0 0 }
.facts {
  display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 22px 0 0; padding: 14px 18px; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px;
}
.facts div { min-width: 84px }
.facts dt { font-size: 12px; color: var(--soft) }
.facts dd { margin: 0; font-weight: 600 }
dl { margin: 0 }
.wrong {
  background: var(--bad-bg); border: 1px solid var(--bad-line); border-left: 5px solid var(--bad);
  border-radius: 10px; padding: 13px 18px; margin: 0 0 10px;
}
.wrong h3 { margin: 0; font-size: 15px }
.wrong ul { margin: 6px 0 0; padding-left: 20px }
.wrong p { margin: 5px 0 0 }
.wrong li { overflow-wrap: anywhere }
.wrong .pair { color: var(--soft); font-size: 13.5px; margin-top: 7px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px }
.group { margin: 0 0 14px; overflow: hidden }
.group>header {
  display: flex; justify-content: space-between; gap: 12px; padding: 10px 18px;
  border-bottom: 1px solid var(--line); font-weight: 600;
}
.group>header span { font-weight: 400; color: var(--soft) }
details+details { border-top: 1px solid var(--line) }
summary {
  display: grid; grid-template-columns: 22px minmax(150px,300px) 1fr 132px 58px; gap: 12px;
  align-items: center; padding: 8px 18px; cursor: pointer; list-style: none;
}
summary::-webkit-details-marker { display: none }
summary:hover, details[open]>summary { background: var(--sunk) }
summary:focus-visible { outline: 2px solid var(--h0); outline-offset: -2px }
.mark { width: 18px; height: 18px; display: block }
.mark circle { fill: var(--good-bg) }
.mark path { stroke: var(--good); stroke-width: 2; fill: none; stroke-linecap: round; stroke-linejoin: round }
.mark.bad circle { fill: var(--bad) }
.mark.bad path { stroke: var(--card) }
.mark.skip circle { fill: var(--sunk) }
.mark.skip path { stroke: var(--soft) }
.name { font-weight: 600; overflow-wrap: anywhere }
.says { color: var(--soft); overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
details[open] .says { white-space: normal }
.red .says { color: var(--bad) }
.time { text-align: right; color: var(--soft); font-variant-numeric: tabular-nums; font-size: 13px }
.bar { width: 100%; height: 8px; display: block }
.bar .track { fill: var(--sunk) }
.bar .span { fill: var(--h0); opacity: .7 }
.red .bar .span { fill: var(--bad) }
.more { padding: 6px 18px 16px 52px }
.more dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 0 }
.more dt { color: var(--soft) }
.more dd { margin: 0; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 10px 0 0; font-size: 13.5px; width: 100% }
th { text-align: left; font-weight: 500; color: var(--soft) }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere }
tr:last-child td { border: 0 }
td.no { color: var(--bad); font-weight: 600 }
.redis {
  display: grid; grid-template-columns: 250px 1fr; gap: 26px; padding: 18px 22px; align-items: center;
  margin: 0 0 14px;
}
.shards { display: grid; gap: 11px }
.shard { display: grid; grid-template-columns: 14px 1fr; gap: 12px }
.swatch { border-radius: 4px }
.shard p { margin: 0 }
.shard .slots { color: var(--soft); font-size: 13px; margin-left: 8px }
.shard .copies { color: var(--soft); font-size: 13.5px }
.bad-word { color: var(--bad); font-weight: 600 }
svg text { font-family: inherit; fill: var(--ink) }
svg.map { width: 100%; height: auto; display: block }
.zone { fill: var(--card); stroke: var(--line) }
.zone-name { font-size: 15px; font-weight: 600 }
.faint, .pool { font-size: 12.5px; fill: var(--soft)!important }
.node { fill: var(--sunk); stroke: transparent }
.node.bad { fill: var(--bad-bg); stroke: var(--bad) }
.node-name { font-size: 13.5px; font-weight: 600 }
.chip { fill: var(--card); stroke: var(--line) }
.chip.bad { fill: var(--bad-bg); stroke: var(--bad) }
.chip.waiting { fill: var(--wait-bg); stroke: var(--wait) }
.pod { font-size: 11.3px }
.dot.ok, .square.ok { fill: var(--good) }
.dot.bad, .square.bad { fill: var(--bad) }
.dot.waiting, .square.waiting { fill: var(--wait) }
.dot.done, .square.done { fill: var(--soft) }
.bad-text { fill: var(--bad)!important; font-weight: 600 }
.legend { display: flex; flex-wrap: wrap; gap: 6px 20px; color: var(--soft); font-size: 13px; margin: 10px 2px 0 }
.legend svg { width: 12px; height: 12px; margin-right: 6px; vertical-align: -1px }
svg.ring { width: 250px; height: 250px }
.ring-gap { stroke: var(--bad); opacity: .85 }
.ring-number { font-size: 21px; font-weight: 700; text-anchor: middle }
.ring-label { font-size: 13px; text-anchor: middle }
footer { margin-top: 40px; color: var(--soft); font-size: 13px }
@media (max-width:820px) {
  main { padding: 20px 14px }
  summary { grid-template-columns: 22px 1fr 58px }
  summary .says, summary .bar { display: none }
  .redis { grid-template-columns: 1fr }
  .more { padding-left: 18px }
}
.charts { display: grid; grid-template-columns: repeat(auto-fill,minmax(260px,1fr)); gap: 14px }
.chart { margin: 0; padding: 12px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 12px }
.chart figcaption { font-size: 13px; color: var(--soft) }
.chart svg { display: block; width: 100%; height: 84px; margin: 6px 0; background: var(--sunk); border-radius: 6px }
.chart path { fill: none; stroke-width: 1.6; vector-effect: non-scaling-stroke }
.chart ul { list-style: none; margin: 0; padding: 0; font-size: 12.5px; display: flex; flex-wrap: wrap; gap: 2px 14px }
.chart li { overflow-wrap: anywhere }
.chart .swatch { display: inline-block; width: 9px; height: 9px; margin: 0 5px 0 0; border-radius: 3px; min-height: 0 }
.chart .figure { font-size: 25px; font-weight: 600; margin: 2px 0 0 }
.chart .none { color: var(--soft); margin: 4px 0 0 }
@media print {
  body { background: #fff }
  .card, .wrong { break-inside: avoid }
}
""" + "\n".join(
    f".arc.hue{n}, .chart .hue{n} {{ stroke: var(--h{n}) }} .master.hue{n}, .swatch.hue{n} {{ fill: var(--h{n}); background: var(--h{n}) }} "
    f".replica.hue{n} {{ fill: var(--card); stroke: var(--h{n}); stroke-width: 2 }}"
    for n in range(HUES)
)
