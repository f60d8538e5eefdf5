/**
 * The benchmark's report: a table in the terminal, JSON for programs, a chart for pages.
 *
 * @module
 */

import type { Measure, Sample } from "./measure.ts";

/** A measure and all that was measured. */
export interface Result {
  name: string;
  unit: string;
  better: "more" | "less";
  goal: Measure["goal"] | null;
  /** Ours first, then the peers. */
  contestants: { name: string; samples: Sample[]; median: number }[];
  /** Ours against the best peer's: above 1 ours is better, but for memory, where it is the part we need. */
  ratio: number | null;
  reached: boolean | null;
}

/** The whole of a run. */
export interface Report {
  /** What it ran on, and against. */
  machine: Record<string, string>;
  missing: string[];
  results: Result[];
}

/** The result of a measure. */
export function resultOf(measure: Measure, samples: Sample[][]): Result {
  const { name, unit, better, goal } = measure;
  const contestants = measure.contestants.map((contestant, i) => ({
    name: contestant.name,
    samples: samples[i],
    median: median(samples[i].map(({ value }) => value)),
  }));
  const [ours, ...peers] = contestants;
  const values = peers.map((peer) => peer.median);
  const best = better === "more" ? Math.max(...values) : Math.min(...values);
  let ratio: number | null = null;
  if (peers.length > 0) {
    ratio = better === "more" || goalIsPart(goal) ? ours.median / best : best / ours.median;
  }
  return {
    name,
    unit,
    better,
    goal: goal ?? null,
    contestants,
    ratio,
    reached: reached(ours.median, ratio, goal),
  };
}

/** A goal below 1 is a part of what the peer needs. */
function goalIsPart(goal: Measure["goal"]): boolean {
  return goal !== undefined && "ratio" in goal && goal.ratio < 1;
}

function reached(value: number, ratio: number | null, goal: Measure["goal"]): boolean | null {
  if (!goal) return null;
  if ("value" in goal) return value <= goal.value;
  if (ratio === null) return null;
  return goalIsPart(goal) ? ratio <= goal.ratio : ratio >= goal.ratio;
}

function goalText(goal: Measure["goal"] | null, unit: string): string {
  if (!goal) return "";
  if ("value" in goal) return `≤ ${goal.value} ${unit}`;
  return goal.ratio < 1 ? `≤ ${goal.ratio} ×` : `≥ ${goal.ratio} ×`;
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The results as text, for a terminal. */
export function table({ machine, missing, results }: Report, colour: boolean): string {
  const paint = (code: number, text: string) => colour ? `\x1b[${code}m${text}\x1b[0m` : text;
  const lines = [Object.entries(machine).map(([name, value]) => `${name}: ${value}`).join(" · "), ""];
  for (const { name, unit, contestants, ratio, reached, goal } of results) {
    const mark = reached === null ? "" : reached ? paint(32, "reached") : paint(31, "not reached");
    const parts = [ratio === null ? "" : `${ratio.toFixed(2)} ×`, goalText(goal, unit), mark].filter(Boolean);
    lines.push(`${paint(1, name)}: ${parts.join(", ")}`);
    const width = Math.max(...contestants.map((each) => each.name.length));
    for (const { name, samples, median } of contestants) {
      const values = samples.map(({ value }) => value);
      const spread = values.length > 1
        ? ` (${figure(Math.min(...values))} to ${figure(Math.max(...values))})`
        : "";
      lines.push(
        `  ${name.padEnd(width)}  ${figure(median).padStart(10)} ${unit}${spread}${processors(samples)}`,
      );
    }
    lines.push("");
  }
  for (const what of missing) lines.push(`Not measured: ${what}`);
  return lines.join("\n");
}

/** Who had the two processors, in the middle of the samples. */
function processors(samples: Sample[]): string {
  const all = samples.flatMap(({ processors }) => processors ? [processors] : []);
  if (all.length === 0) return "";
  const parts = Object.keys(all[0]).map((who) => [who, median(all.map((each) => each[who]))] as const)
    .filter(([, share]) => share >= 0.005);
  return `; processors: ${parts.map(([who, share]) => `${who} ${share.toFixed(2)}`).join(", ")}`;
}

function figure(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(value < 10 ? 2 : 1);
}

const BAR = 340, LEFT = 400, ROW = 26;

/** The ratios as a chart in SVG, readable on light and on dark pages. */
export function chart({ results }: Report): string {
  const rows = results.filter(({ ratio }) => ratio !== null);
  const most = Math.max(
    1,
    ...rows.map(({ ratio, goal }) => Math.max(ratio!, goal && "ratio" in goal ? goal.ratio : 1)),
  );
  const x = (ratio: number) => (LEFT + BAR * ratio / most).toFixed(1);
  const bars = rows.map(({ name, ratio, goal, reached }, i) => {
    const y = 30 + i * ROW;
    const mark = goal && "ratio" in goal
      ? `<line x1="${x(goal.ratio)}" x2="${x(goal.ratio)}" y1="${y - 3}" y2="${y + 17}" class="goal"/>`
      : "";
    return `  <text x="${LEFT - 8}" y="${y + 12}" text-anchor="end">${escape(name)}</text>
  <rect x="${LEFT}" y="${y}" width="${(BAR * ratio! / most).toFixed(1)}" height="14" class="${
      reached === false ? "short" : "bar"
    }"/>
  ${mark}<text x="${Number(x(ratio!)) + 6}" y="${y + 12}">${ratio!.toFixed(2)} ×</text>`;
  });
  const height = 40 + rows.length * ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${
    LEFT + BAR + 70
  }" height="${height}" font-family="sans-serif" font-size="11">
  <style>text { fill: #777 } .bar { fill: #2a9d6f } .short { fill: #d08c2a } .goal { stroke: #777; stroke-width: 2 }</style>
  <text x="${LEFT}" y="16">memstore relative to its best peer (the line is the goal)</text>
${bars.join("\n")}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
