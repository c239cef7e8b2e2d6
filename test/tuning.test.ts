import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serveCommand } from '../packages/rose/src/commands/serve.ts';
import { cacheMetrics } from '../packages/server/src/metrics/cache.ts';
import { inferenceMetrics } from '../packages/server/src/metrics/inference.ts';
import { machineMetrics } from '../packages/server/src/metrics/machine.ts';
import { Metrics } from '../packages/server/src/metrics/metrics.ts';

const page = readFileSync(fileURLToPath(new URL('../docs/tuning.md', import.meta.url)), 'utf8');

/** Rows of the tables whose first column is named so, as cells. */
function rowsOf(column: string): string[][] {
  const rows: string[][] = [];
  for (const table of page.matchAll(/^\| *(\w+) *\|.*\n\|[ |-]+\|\n((?:\|.*\n)+)/gm)) {
    if (table[1] !== column) continue;
    for (const row of table[2].trim().split('\n'))
      rows.push(
        row
          .slice(1, -1)
          .split('|')
          .map((cell) => cell.trim()),
      );
  }
  return rows;
}

/** What stands in backquotes. */
const quoted = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text);

test('docs/tuning.md has every option of rose serve, with its default and its name in the library', () => {
  const options = new Map(serveCommand().options.map((option) => [option.long!, option]));
  const described: string[] = [];
  for (const [cell, defaults] of rowsOf('option')) {
    const names = quoted(cell).filter((text) => text.startsWith('--'));
    described.push(...names);
    const [field] = quoted(cell).filter((text) => !text.startsWith('--'));
    if (field !== undefined) assert.equal(options.get(names[0])?.attributeName(), field, names[0]);
    for (const name of names) {
      // `--no-x` has a default of commander's own.
      const option = options.get(name);
      const value = option?.negate === true ? undefined : (option?.defaultValue as string | number | undefined);
      if (value !== undefined) assert.ok(defaults.includes(String(value)), `${name}: ${defaults}, but it is ${value}`);
    }
  }
  assert.deepEqual(described.toSorted(), [...options.keys()].toSorted());
});

test('docs/tuning.md has every metric', async () => {
  const { registry } = new Metrics({ stats: { device: '', restarts: 0 } });
  inferenceMetrics(registry, () => []);
  cacheMetrics(registry, () => undefined);
  machineMetrics(registry, { intervalMs: 1000 })();
  const names = registry.getMetricsAsArray().map(({ name }) => name);
  assert.ok(names.length > 20);
  assert.deepEqual(
    rowsOf('metric')
      .flatMap(([cell]) => quoted(cell))
      .toSorted(),
    names.toSorted(),
  );
});
