/**
 * What a measure is: ours and its peers, which take turns, and what it is judged by.
 *
 * @module
 */

/** One way to be measured: ours, or a peer's. */
export interface Contestant {
  name: string;
  /**
   * Measures once, for about this many seconds.
   *
   * @throws {Error} if it cannot be measured: it is then left out, and named in the report.
   */
  once(seconds: number): Promise<Sample>;
}

/** The result of measuring once. */
export interface Sample {
  value: number;
  /** How many processors were busy, by what used them. */
  processors?: Record<string, number>;
}

/** Ours beside the best of some peers. Without a goal, the ratio is only reported. */
export interface Comparison {
  /** The name of ours; left out, the first contestant. */
  ours?: string;
  /** The names of the peers; left out, all other contestants. Those that were not measured do not count. */
  against?: string[];
  /** The goal: how many times better ours is at least; … */
  atLeast?: number;
  /** … or which part of what the best peer needs ours needs at most. */
  atMost?: number;
}

/** Something to measure. */
export interface Measure {
  name: string;
  unit: string;
  better: "more" | "less";
  /** Left out: the first contestant is compared with all others. */
  comparisons?: Comparison[];
  /** The goal where there can be no peer: the value of the first contestant. */
  value?: number;
  /** How often it is measured at most. */
  rounds?: number;
  /** Ours first. */
  contestants: Contestant[];
}

/** How much is measured. */
export interface Size {
  /** About how many seconds one measurement takes. */
  seconds: number;
  /** Entries of the large table. */
  entries: number;
  /** Entries of the very large one. */
  many: number;
}

/** The contestants that are there to be measured. */
export function list(...contestants: (Contestant | false | undefined)[]): Contestant[] {
  return contestants.filter((each) => each !== false && each !== undefined);
}

/**
 * Measures ours and its peers in turn, round after round.
 *
 * @param show Told what is measured next.
 * @returns The samples of each contestant, none of one that could not be measured; and why it could not.
 */
export async function measureInTurns(
  { name: what, contestants, rounds: most = Infinity }: Measure,
  rounds: number,
  seconds: number,
  show: (text: string) => void = () => {},
): Promise<{ samples: Sample[][]; failed: string[] }> {
  const samples: Sample[][] = contestants.map(() => []);
  const failed: string[] = [];
  const left = new Set(samples.keys());
  const times = Math.min(rounds, most);
  for (let round = 0; round < times; round++) {
    for (const i of left) {
      const { name, once } = contestants[i];
      show(`round ${round + 1} of ${times}: ${what}, ${name}`);
      try {
        samples[i].push(await once(seconds));
      } catch (error) {
        left.delete(i);
        samples[i] = [];
        failed.push(`${name}, ${what}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
  return { samples, failed };
}
