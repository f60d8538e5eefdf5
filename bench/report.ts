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
  /** Ours first, then the peers; without those that could not be measured. */
  contestants: { name: string; samples: Sample[]; median: number }[];
  judgements: Judgement[];
}

/** What a measure says: a ratio to a peer or, where there is none, the value itself; and whether the goal is reached. */
export interface Judgement {
  ours: string;
  /** The best of the peers. */
  peer?: string;
  /** Ours against the peer's: above 1 ours is better; but where the goal is a part, the part that ours needs. */
  ratio?: number;
  goal?: { atLeast: number } | { atMost: number };
  reached?: boolean;
}

/** The whole of a run. */
export interface Report {
  /** What it ran on, and against. */
  machine: Record<string, string>;
  /** The tools that are missing. */
  missing: string[];
  /** What could not be measured though its tool is there, and why. */
  failed: string[];
  results: Result[];
}

/**
 * The result of a measure.
 *
 * @param samples Those of each contestant; none of one that could not be measured.
 */
export function resultOf(measure: Measure, samples: Sample[][]): Result {
  const { name, unit, better, value, comparisons = [{}] } = measure;
  const contestants = measure.contestants.map((contestant, i) => ({
    name: contestant.name,
    samples: samples[i],
    median: median(samples[i].map(({ value }) => value)),
  })).filter(({ samples }) => samples.length > 0);
  const first = measure.contestants[0].name;

  const judgements: Judgement[] = [];
  for (const { ours: oursName = first, against, atLeast, atMost } of comparisons) {
    const ours = contestants.find(({ name }) => name === oursName);
    const best = contestants
      .filter(({ name }) => name !== oursName && (against?.includes(name) ?? true))
      .sort((a, b) => better === "more" ? b.median - a.median : a.median - b.median)[0];
    if (!ours || !best) continue;
    const isPart = atMost !== undefined;
    const ratio = (better === "more") !== isPart ? ours.median / best.median : best.median / ours.median;
    judgements.push({ ours: oursName, peer: best.name, ratio, ...judged(ratio, atLeast, atMost) });
  }
  const ours = contestants.find(({ name }) => name === first);
  if (ours && value !== undefined) {
    const goal = better === "more" ? judged(ours.median, value) : judged(ours.median, undefined, value);
    judgements.push({ ours: first, ...goal });
  }
  return { name, unit, better, contestants, judgements };
}

function judged(value: number, atLeast?: number, atMost?: number): Pick<Judgement, "goal" | "reached"> {
  if (atLeast !== undefined) return { goal: { atLeast }, reached: value >= atLeast };
  return atMost === undefined ? {} : { goal: { atMost }, reached: value <= atMost };
}

/** The value of a goal. */
function goalValue(goal: NonNullable<Judgement["goal"]>): number {
  return "atLeast" in goal ? goal.atLeast : goal.atMost;
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The results as text, for a terminal. */
export function table({ machine, missing, failed, results }: Report, colour: boolean): string {
  const paint = (code: number, text: string) => colour ? `\x1b[${code}m${text}\x1b[0m` : text;
  const lines = [Object.entries(machine).map(([name, value]) => `${name}: ${value}`).join(" · "), ""];
  for (const { name, unit, contestants, judgements } of results) {
    lines.push(paint(1, name));
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
    for (const { ours, peer, ratio, goal, reached } of judgements) {
      const parts = [];
      if (ratio !== undefined) parts.push(`${ratio.toFixed(2)} × ${peer}`);
      if (goal) {
        const sign = "atLeast" in goal ? "≥" : "≤";
        parts.push(`goal ${sign} ${goalValue(goal)} ${ratio === undefined ? unit : "×"}`);
        parts.push(reached ? paint(32, "reached") : paint(31, "not reached"));
      }
      lines.push(`  → ${ours}: ${parts.join(", ")}`);
    }
    lines.push("");
  }
  for (const what of missing) lines.push(`Not measured: ${what}`);
  for (const what of failed) lines.push(`Cannot measure: ${what}`);
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

const BAR = 340, LEFT = 560, ROW = 26;
/** The ratio at which a bar ends, though its figure says more: the others can be seen beside it. */
const LONGEST = 20;

/** The ratios as a chart in SVG, readable on light and on dark pages. */
export function chart({ results }: Report): string {
  const rows = results.flatMap(({ name, judgements }) =>
    judgements.flatMap(({ ours, peer, ratio, goal, reached }) =>
      ratio === undefined ? [] : [{ label: `${name}: ${ours} / ${peer}`, ratio, goal, reached }]
    )
  );
  const largest = Math.max(1, ...rows.map(({ ratio, goal }) => Math.max(ratio, goal ? goalValue(goal) : 1)));
  const most = Math.min(largest, LONGEST);
  const length = (ratio: number) => BAR * Math.min(ratio / most, 1);
  const x = (ratio: number) => (LEFT + length(ratio)).toFixed(1);
  const bars = rows.map(({ label, ratio, goal, reached }, i) => {
    const y = 30 + i * ROW, end = goal && x(goalValue(goal));
    const mark = end ? `<line x1="${end}" x2="${end}" y1="${y - 3}" y2="${y + 17}" class="goal"/>` : "";
    return `  <text x="${LEFT - 8}" y="${y + 12}" text-anchor="end">${escape(label)}</text>
  <rect x="${LEFT}" y="${y}" width="${length(ratio).toFixed(1)}" height="14" class="${
      reached === false ? "short" : "bar"
    }"/>
  ${mark}<text x="${Number(x(ratio)) + 6}" y="${y + 12}">${ratio.toFixed(2)} ×</text>`;
  });
  const height = 40 + rows.length * ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${
    LEFT + BAR + 70
  }" height="${height}" font-family="sans-serif" font-size="11">
  <style>text { fill: #777 } .bar { fill: #2a9d6f } .short { fill: #d08c2a } .goal { stroke: #777; stroke-width: 2 }</style>
  <text x="${LEFT}" y="16">memstore relative to the best of the peers (the line is the goal; bars end at ${LONGEST} ×)</text>
${bars.join("\n")}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
