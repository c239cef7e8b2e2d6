/** What the rounds of one case come to. Rates: more is better. */
export interface Summary {
  readonly medians: Record<string, number>;
  /** The medians as parts of what the machine allows. */
  readonly shares: Record<string, number>;
  readonly bestPeer: string;
  /** Each of ours over the best peer: of medians, and the median, lowest and highest of the rounds' own ratios. */
  readonly ratios: Record<string, Ratio>;
}

export interface Ratio {
  readonly medians: number;
  readonly paired: number;
  readonly lowest: number;
  readonly highest: number;
}

/**
 * @param rates of each contender, one a round
 * @param isPeer tells the others from ours
 * @param share of the machine's limit at a rate
 */
export function summarize(
  rates: Readonly<Record<string, readonly number[]>>,
  isPeer: (name: string) => boolean,
  share: (name: string, rate: number) => number,
): Summary {
  const names = Object.keys(rates);
  const medians = Object.fromEntries(names.map((name) => [name, round(median(rates[name]))]));
  const shares = Object.fromEntries(names.map((name) => [name, round(share(name, medians[name]), 2)]));
  const bestPeer = names.filter(isPeer).reduce((a, b) => (medians[b] > medians[a] ? b : a));
  const ours = names.filter((name) => !isPeer(name));
  const ratios = Object.fromEntries(
    ours.map((name) => {
      // What was measured side by side is compared before anything is averaged.
      const paired = rates[name].map((rate, i) => rate / rates[bestPeer][i]);
      const ratio: Ratio = {
        medians: round(medians[name] / medians[bestPeer], 3),
        paired: round(median(paired), 3),
        lowest: round(Math.min(...paired), 3),
        highest: round(Math.max(...paired), 3),
      };
      return [name, ratio];
    }),
  );
  return { medians, shares, bestPeer, ratios };
}

/** One line a case and contender. */
export function printSummaries(title: string, unit: string, summaries: Readonly<Record<string, Summary>>): void {
  console.log(`\n${title}`);
  const rows = Object.entries(summaries).flatMap(([name, { medians, shares, ratios, bestPeer }]) =>
    Object.keys(medians).map((contender) => ({
      case: name,
      engine: contender,
      [unit]: medians[contender],
      'of the limit': `${Math.round(100 * shares[contender])} %`,
      'beside the best peer':
        contender in ratios
          ? `${ratios[contender].medians} (paired ${ratios[contender].paired}, ${ratios[contender].lowest} to ${ratios[contender].highest})`
          : contender === bestPeer
            ? 'best peer'
            : '',
    })),
  );
  console.table(rows);
}

/** Significant digits, not decimals. */
export function round(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}

/** The middle of the sorted values; of the two middle ones, their mean. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
