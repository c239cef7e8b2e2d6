import { formatPosition, simulate, type KernelIR, type SimulatorOptions, type SimulatorResult } from '@rose/cute';
import { simulatorArguments, type Executor } from '@rose/kernels';

/** The simulator as an executor; `report` gets what it found, also where all is well. */
export function simulatorExecutor(
  options: SimulatorOptions,
  report: (result: SimulatorResult) => void,
): Executor<KernelIR> {
  return {
    name: 'the simulator',
    run(kernel, args, grid) {
      report(simulate(kernel, { grid, args: simulatorArguments(args), options }));
    },
  };
}

/** What the simulator found and what it counted, as lines. */
export function describeResult(result: SimulatorResult): string[] {
  const lines = result.printed.map((line) => `  ${line}`);
  for (const finding of result.findings) {
    lines.push(`  ${finding.kind}: ${finding.message}${finding.count > 1 ? ` (${finding.count} times)` : ''}`);
  }
  for (const [title, unit, list] of [
    ['shared memory', 'passes over the banks', result.stats.banks],
    ['global memory', 'sectors', result.stats.coalescing],
  ] as const) {
    for (const line of list) {
      const share = line.ideal === 0 ? 1 : line.actual / line.ideal;
      lines.push(
        `  ${title}, ${line.op} at ${formatPosition(line.position)}: ${line.actual} ${unit}, ${share.toFixed(2)} x the fewest`,
      );
    }
  }
  return lines;
}
