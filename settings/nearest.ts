/**
 * Finds the known word that a misspelled one is nearest to.
 *
 * @module
 */

/** The known key that is nearest to an unknown one; undefined if none is near. */
export function nearest(key: string, known: readonly string[]): string | undefined {
  const last = (key: string) => key.slice(key.lastIndexOf(".") + 1).toLowerCase();
  const [best] = known
    .map((each) => ({ each, far: Math.min(distance(key, each), distance(last(key), last(each))) }))
    .sort((a, b) => a.far - b.far);
  return best && best.far <= Math.max(1, key.length / 3) ? best.each : undefined;
}

/** The Levenshtein distance: how many letters must be added, removed or changed. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
