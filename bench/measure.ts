/**
 * What a measure is: ours and its peers, which take turns, and a goal.
 *
 * @module
 */

/** One way to be measured: ours, or a peer's. */
export interface Contestant {
  name: string;
  /** Measures once, for about this many seconds. */
  once(seconds: number): Promise<Sample>;
}

/** The result of measuring once. */
export interface Sample {
  value: number;
  /** How many processors were busy, by what used them. */
  processors?: Record<string, number>;
}

/** Something to measure. */
export interface Measure {
  name: string;
  unit: string;
  better: "more" | "less";
  /** What to reach: a ratio to the best peer or, where there can be no peer, a value. */
  goal: { ratio: number } | { value: number } | undefined;
  /** How often it is measured at most. */
  rounds?: number;
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
