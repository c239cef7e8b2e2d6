import type { LoadSummary, Percentiles } from './summary.ts';

/** A summary for people. */
export function loadTable(summary: LoadSummary): string {
  const { done, cancelled, requests, errors, together } = summary;
  const failed = Object.values(errors).reduce((sum, { count }) => sum + count, 0);
  const rate = (value: number): string => value.toFixed(value < 10 ? 2 : 0);
  const lines = [
    `requests       ${requests}: ${done} answered, ${cancelled} cancelled, ${failed} failed, in ${summary.seconds.toFixed(1)} s`,
    ...Object.entries(errors).map(([reason, { count, example }]) => `  ${count} x ${reason}: ${example}`),
    `throughput     ${rate(summary.requestsPerSecond)} requests/s, ${rate(summary.outputTokensPerSecond)} tokens/s out, ` +
      `${rate(summary.inputTokensPerSecond)} tokens/s in`,
    ...(together === undefined
      ? []
      : [
          `               ${rate(together.outputTokensPerSecond)} tokens/s out while ${together.answers} answers come at once ` +
            `(${together.seconds.toFixed(1)} s)`,
        ]),
    `tokens         ${summary.outputTokens} out, ${summary.inputTokens} in, ${summary.cachedTokens} of them cached`,
  ];
  if (summary.countedByEvents > 0) {
    lines.push(
      `note           the server does not say how many tokens ${summary.countedByEvents} answers have: there each event ` +
        'with text counts as one, and their prompts as none',
    );
  }
  if (summary.cancelled > 0) lines.push('note           of cancelled answers each event with text counts as a token');
  const measures: readonly (readonly [string, Percentiles | undefined])[] = [
    ['time to first token', summary.timeToFirstToken],
    ['inter-token time', summary.interToken],
    ['time per output token', summary.timePerOutputToken],
    ['end to end', summary.endToEnd],
    ['sent after its time', summary.sendLag],
  ];
  const header = ['milliseconds', 'p50', 'p90', 'p99', 'mean', 'max'];
  const rows = measures.flatMap(([name, measure]) => {
    if (measure === undefined) return [];
    const { p50, p90, p99, mean, max } = measure;
    return [[name, ...[p50, p90, p99, mean, max].map((value) => value.toFixed(value < 100 ? 1 : 0))]];
  });
  const line = ([name, ...values]: readonly string[]): string =>
    name.padEnd(23) + values.map((value) => value.padStart(9)).join('');
  return [...lines, '', line(header), ...rows.map(line), ''].join('\n');
}
