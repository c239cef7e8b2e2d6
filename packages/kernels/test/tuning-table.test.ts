import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  defineKernel,
  emptyTable,
  formatTuningTable,
  input,
  KERNELS,
  output,
  parseTuningTable,
  shippedTables,
  specialise,
  tableName,
  tunableNames,
  Tunings,
  tuningsFor,
  withEntry,
  type KernelModule,
  type TableFacts,
  type TunedEntry,
  type TuningTable,
} from '../src/index.ts';

/** Tables of tunings: what `specialise` takes from them, and what it does with those that do not fit. */

const DEVICE = { name: 'NVIDIA H100 80GB HBM3', arch: 'sm_90a', multiprocessors: 132 };
const folder = mkdtempSync(join(tmpdir(), 'rose-tables-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const TUNING = { lanes: [32, 64], threads: [128, 256, 512], waves: [0, 1, 2] } as const;
const OPTIONS = { type: ['bf16', 'f16'] } as const;

/** Sums rows; nothing of it is ever traced here. */
function sumRows(tables: TableFacts<typeof OPTIONS, typeof TUNING> = {}): KernelModule {
  return defineKernel({
    name: 'sum_rows',
    summary: 'y[r] = sum(x[r])',
    dims: { rows: 'rows', columns: 'elements of a row' },
    options: OPTIONS,
    tuning: TUNING,
    refuse: ({ tuning: { threads, waves } }) =>
      threads === 512 && waves === 2 ? '512 threads walk no two rounds' : undefined,
    choose: ({ columns }) => ({ lanes: columns > 512 ? 64 : 32, threads: 128, waves: 0 }),
    tables: {
      order: ['lanes'],
      key: ({ rows, columns }, { type }) => ({ rows: 2 ** Math.ceil(Math.log2(rows)), columns, type }),
      ...tables,
    },
    args: ({ rows, columns }) => ({ x: input('f32', [rows, columns]), y: output('f32', [rows]) }),
    trace: () => assert.fail('not traced'),
    grid: ({ dims: { rows } }) => [rows, 1, 1],
    reference: () => ({}),
    roofline: () => ({ bytes: 1, flops: 1 }),
    cases: [{ dims: { rows: 1, columns: 1 } }],
  });
}

const dims = { rows: 100, columns: 1024 };
const ENTRY: TunedEntry = {
  key: { type: 'bf16', columns: 1024, rows: 128 },
  tuning: { threads: 256, waves: 1 },
  microseconds: 8,
  chosenMicroseconds: 10,
  dims,
};

function tableWith(entry: object, module: KernelModule = sumRows()): TuningTable {
  return withEntry(emptyTable(DEVICE), module, { ...ENTRY, ...entry });
}

/** What is chosen with a table, and what was said. */
function chosen(table: TuningTable, wanted: Parameters<typeof specialise>[1] = { dims }, module = sumRows()) {
  const warnings: string[] = [];
  const tunings = new Tunings([{ table, where: 'the table' }], (message) => warnings.push(message));
  return { tuning: specialise(module, wanted, tunings).tuning, warnings };
}

test('a table is asked before the kernel chooses, and leaves what decides an order to it', () => {
  const { tuning, warnings } = chosen(tableWith({}));
  assert.deepEqual(tuning, { lanes: 64, threads: 256, waves: 1 });
  assert.deepEqual(warnings, []);
});

test('an entry counts for what is rounded to the same key, and for nothing else', () => {
  const table = tableWith({});
  for (const rows of [65, 128]) assert.equal(chosen(table, { dims: { ...dims, rows } }).tuning['threads'], 256);
  for (const other of [
    { dims: { ...dims, rows: 64 } },
    { dims: { ...dims, rows: 129 } },
    { dims: { ...dims, columns: 1025 } },
    { dims, options: { type: 'f16' } },
  ]) {
    assert.equal(chosen(table, other).tuning['threads'], 128);
  }
});

test('what the caller says goes before the table', () => {
  const { tuning } = chosen(tableWith({}), { dims, tuning: { threads: 512 } });
  assert.deepEqual(tuning, { lanes: 64, threads: 512, waves: 1 });
});

test('the first table that knows answers', () => {
  const [own, shipped] = [tableWith({}), tableWith({ tuning: { threads: 512, waves: 0 } })];
  const tunings = new Tunings(
    [own, shipped].map((table, i) => ({ table, where: `table ${i}` })),
    assert.fail,
  );
  assert.equal(specialise(sumRows(), { dims }, tunings).tuning['threads'], 256);
});

test('a tuning that does not fit the kernel is left out, with one warning', () => {
  for (const [entry, why] of [
    [{ tuning: { threads: 512, waves: 2 } }, /512 threads walk no two rounds/],
    [{ tuning: { threads: 256, waves: 1, lanes: 32 } }, /lanes decides the order of a sum/],
    [{ tuning: { threads: 256 } }, /it has no waves/],
    [{ tuning: { threads: 96, waves: 1 } }, /threads is 96, which is not known/],
    [{ tuning: { threads: 256, waves: 1, depth: 3 } }, /depth is 3, which is not known/],
  ] as const) {
    const { tuning, warnings } = chosen(tableWith(entry));
    assert.deepEqual(tuning, { lanes: 64, threads: 128, waves: 0 });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /^the table: a tuning of sum_rows is left out \(/);
    assert.match(warnings[0], why);
    assert.match(warnings[0], /`rose tune sum_rows` measures again/);
  }
});

test('a table for another version of the tuning is left out, and told once', () => {
  const table = tableWith({});
  const warnings: string[] = [];
  const tunings = new Tunings([{ table, where: 'it' }], (message) => warnings.push(message));
  const module = sumRows({ version: 2 });
  for (let i = 0; i < 3; i++) assert.equal(specialise(module, { dims }, tunings).tuning['threads'], 128);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /for version 1 of its tuning, and this is version 2/);
});

test('a table comes back from its text as it was, sorted by its keys', () => {
  const module = sumRows();
  let table = emptyTable(DEVICE);
  for (const rows of [1024, 8, 128]) table = withEntry(table, module, { ...ENTRY, key: { ...ENTRY.key, rows } });
  table = withEntry(table, module, { ...ENTRY, microseconds: 7 });
  const entries = table.kernels['sum_rows'].entries;
  assert.deepEqual(
    entries.map(({ key, microseconds }) => [key['rows'], microseconds]),
    [
      [8, 8],
      [128, 7],
      [1024, 8],
    ],
  );
  assert.deepEqual(parseTuningTable(formatTuningTable(table), 'it'), table);
  assert.deepEqual(parseTuningTable(formatTuningTable(emptyTable(DEVICE)), 'it'), emptyTable(DEVICE));
});

test('an entry for a new version replaces what there was', () => {
  const table = withEntry(tableWith({}), sumRows({ version: 2 }), { ...ENTRY, key: { ...ENTRY.key, rows: 1 } });
  assert.equal(table.kernels['sum_rows'].version, 2);
  assert.equal(table.kernels['sum_rows'].entries.length, 1);
});

test('what is no table is told', () => {
  const good = JSON.parse(formatTuningTable(tableWith({}))) as Record<string, unknown>;
  for (const [text, why] of [
    ['{', /JSON/],
    ['[]', /its format is not "rose tuning 1"/],
    [JSON.stringify({ ...good, format: 'rose tuning 0' }), /its format is not/],
    [JSON.stringify({ ...good, device: { name: 'x' } }), /no device with a name and an arch/],
    [JSON.stringify({ ...good, device: { name: 'x', arch: 'y' } }), /no multiprocessors/],
    [JSON.stringify({ ...good, kernels: [] }), /no kernels/],
    [JSON.stringify({ ...good, kernels: { a: {} } }), /a has no version and entries/],
    [JSON.stringify({ ...good, kernels: { a: { version: 1, entries: [{}] } } }), /an entry of a lacks/],
  ] as const) {
    assert.throws(() => parseTuningTable(text, 'it.json'), why);
  }
});

function load(device = DEVICE, options: Parameters<typeof tuningsFor>[1] = {}) {
  const warnings: string[] = [];
  const tunings = tuningsFor(device, { onWarning: (message) => warnings.push(message), ...options });
  return { threads: tunings.find(sumRows(), dims, { type: 'bf16' })?.['threads'], warnings };
}

test("a device's own table lies in its directory under its name", () => {
  assert.equal(tableName(DEVICE), 'nvidia-h100-80gb-hbm3.json');
  assert.deepEqual(load(DEVICE, { directory: folder }), { threads: undefined, warnings: [] });
  writeFileSync(join(folder, tableName(DEVICE)), formatTuningTable(tableWith({})));
  assert.deepEqual(load(DEVICE, { directory: folder }), { threads: 256, warnings: [] });
  const other = { ...DEVICE, name: 'NVIDIA H200' };
  assert.deepEqual(load(other, { directory: folder }).threads, undefined);
});

test('a file that is named goes before, counts for the same chip, and never fails', () => {
  const file = join(folder, 'mine.json');
  writeFileSync(file, formatTuningTable(tableWith({ tuning: { threads: 512, waves: 0 } })));
  assert.deepEqual(load(DEVICE, { directory: folder, file }), { threads: 512, warnings: [] });
  assert.deepEqual(load({ ...DEVICE, name: 'NVIDIA H200' }, { file }).threads, 512);
  const pcie = load({ ...DEVICE, name: 'NVIDIA H100 PCIe', multiprocessors: 114 }, { file });
  assert.equal(pcie.threads, undefined);
  assert.match(pcie.warnings[0], /was measured on NVIDIA H100 80GB HBM3 \(sm_90a, 132 multiprocessors\)/);
  const missing = load(DEVICE, { file: join(folder, 'nothing.json') });
  assert.match(missing.warnings[0], /nothing\.json cannot be read and is left out/);
  writeFileSync(file, 'no json');
  const broken = load(DEVICE, { file });
  assert.equal(broken.threads, undefined);
  assert.match(broken.warnings[0], /mine\.json is no table of tunings: [^]*; it is left out/);
  assert.deepEqual(load(DEVICE, { directory: folder, file: 'none' }), { threads: undefined, warnings: [] });
});

test('ROSE_TUNE_TABLE names a file, too', (t) => {
  const file = join(folder, 'environment.json');
  writeFileSync(file, formatTuningTable(tableWith({ tuning: { threads: 512, waves: 1 } })));
  process.env['ROSE_TUNE_TABLE'] = file;
  t.after(() => delete process.env['ROSE_TUNE_TABLE']);
  assert.equal(load(DEVICE, { directory: folder }).threads, 512);
});

test('every tuning that comes with Rose fits its kernel as it is', () => {
  for (const { table, where } of shippedTables()) {
    assert.equal(where, `Rose's ${tableName(table.device)}`);
    const tunings = new Tunings([{ table, where }], assert.fail);
    for (const [name, { entries }] of Object.entries(table.kernels)) {
      const module = KERNELS.find((kernel) => kernel.name === name);
      assert.ok(module, `${where}: there is no kernel ${name}`);
      for (const { key, tuning, dims: sizes } of entries) {
        const given = Object.entries(module.options).map(([option, values]) => {
          // Keys of products have `gated` for the kinds of gates, and nothing of where columns go, which their sizes tell.
          const gate = option === 'gate' && key['gated'] === true ? 'silu' : values[0];
          return [option, option === 'split' && 'keys' in sizes ? 'qkv' : (key[option] ?? gate)];
        });
        const found = tunings.find(module, sizes, Object.fromEntries(given));
        assert.ok(found, `${where}: ${name} ${JSON.stringify(key)} is not found by its own sizes`);
        for (const [choice, value] of Object.entries(tuning)) assert.equal(found[choice], value);
      }
    }
  }
});

test('what decides an order is none of what tables set', () => {
  // Their rows are summed by so many lanes.
  for (const kernel of ['rmsnorm', 'layernorm', 'softmax']) {
    const names = tunableNames(KERNELS.find(({ name }) => name === kernel)!);
    assert.ok(names.includes('threads') && !names.includes('lanes'), kernel);
  }
  assert.throws(() => sumRows({ order: ['nothing' as 'lanes'] }), /sum_rows: its tuning has no nothing/);
});
