import type { Choice, Chosen, Dims, KernelModule, KnownTunings, Space } from './spec.ts';

/**
 * Tables of tunings that were measured to be fast on a device: `rose tune` makes them, `specialise` asks them before the
 * kernel's own `choose`. What a table has wrong costs speed at most: a tuning that the kernel refuses, or one for another
 * version of its tuning, is left out with a warning.
 */

/** A measured tuning. */
export interface TunedEntry {
  /** What it counts for: `tables.key` of the kernel's specification. */
  readonly key: Readonly<Record<string, Choice>>;
  /** Every name of the kernel's tuning but those that decide an order. */
  readonly tuning: Readonly<Record<string, Choice>>;
  /** Median microseconds of a launch with it, and with what the kernel chooses by itself, and the sizes of both. */
  readonly microseconds: number;
  readonly chosenMicroseconds: number;
  readonly dims: Dims;
}

/** A device as tables tell it from others. */
export interface TunedDevice {
  /** As the driver names it: `NVIDIA H100 80GB HBM3`. */
  readonly name: string;
  /** `sm_90a`. */
  readonly arch: string;
  readonly multiprocessors: number;
}

export interface TuningTable {
  readonly format: typeof FORMAT;
  readonly device: TunedDevice;
  readonly kernels: Readonly<Record<string, TunedKernel>>;
}

interface TunedKernel {
  /** `tables.version` of the specification that was measured. */
  readonly version: number;
  readonly entries: readonly TunedEntry[];
}

const FORMAT = 'rose tuning 1';

/** A file that is no table; the message says what is wrong with it. */
export class TuningTableError extends Error {
  override readonly name = 'TuningTableError';
}

export function emptyTable(device: TunedDevice): TuningTable {
  return { format: FORMAT, device, kernels: {} };
}

/** Reads a table. `where` it is from is for messages. Throws TuningTableError. */
export function parseTuningTable(text: string, where: string): TuningTable {
  const wrong = (what: string): never => {
    throw new TuningTableError(`${where} is no table of tunings: ${what}`);
  };
  let table: Partial<TuningTable>;
  try {
    table = JSON.parse(text) as TuningTable;
  } catch (error) {
    return wrong((error as Error).message);
  }
  if (!isRecord(table) || table.format !== FORMAT) return wrong(`its format is not "${FORMAT}"`);
  const { device, kernels } = table;
  if (!isRecord(device) || typeof device.name !== 'string' || typeof device.arch !== 'string')
    return wrong('it has no device with a name and an arch');
  if (!Number.isSafeInteger(device.multiprocessors)) return wrong('its device has no multiprocessors');
  if (!isRecord(kernels)) return wrong('it has no kernels');
  for (const [name, kernel] of Object.entries(kernels)) {
    if (!isRecord(kernel) || !Number.isSafeInteger(kernel.version) || !Array.isArray(kernel.entries))
      return wrong(`${name} has no version and entries`);
    if (!kernel.entries.every(isEntry)) return wrong(`an entry of ${name} lacks its key, its tuning or its time`);
  }
  return table as TuningTable;
}

/** A table as text: an entry a line, kernels and entries in the order of their names and keys. */
export function formatTuningTable({ format, device, kernels }: TuningTable): string {
  const parts = Object.entries(kernels)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { version, entries }]) => {
      const lines = entries.map((entry) => `        ${JSON.stringify(entry)}`).join(',\n');
      return `    ${JSON.stringify(name)}: {\n      "version": ${version},\n      "entries": [\n${lines}\n      ]\n    }`;
    });
  const inside = parts.length === 0 ? '{}' : `{\n${parts.join(',\n')}\n  }`;
  return `{\n  "format": ${JSON.stringify(format)},\n  "device": ${JSON.stringify(device)},\n  "kernels": ${inside}\n}\n`;
}

/** The table with an entry more, in the place of one for the same; what it had for other versions of the kernel goes. */
export function withEntry(table: TuningTable, module: KernelModule, entry: TunedEntry): TuningTable {
  const { version } = module.tables;
  const before = table.kernels[module.name];
  const key = keyText(entry.key);
  const others = before?.version === version ? before.entries.filter((one) => keyText(one.key) !== key) : [];
  const entries = [...others, entry].toSorted((a, b) => compareKeys(a.key, b.key));
  return { ...table, kernels: { ...table.kernels, [module.name]: { version, entries } } };
}

/** The names of a kernel's tuning that a table may set. */
export function tunableNames(module: KernelModule): string[] {
  return Object.keys(module.tuning).filter((name) => !module.tables.order.includes(name));
}

/** Whether what was measured on one device counts for the other: it is the same, or has the same chip. */
export function isAlike(a: TunedDevice, b: TunedDevice): boolean {
  return a.name === b.name || (a.arch === b.arch && a.multiprocessors === b.multiprocessors);
}

export interface NamedTable {
  readonly table: TuningTable;
  /** For messages. */
  readonly where: string;
}

/** Some tables to ask, the first that knows answers. Told once for each table and kernel what is left out. */
export class Tunings implements KnownTunings {
  readonly #tables: readonly NamedTable[];
  readonly #onWarning: (message: string) => void;
  /** Entries by kernel and key, of each table. */
  readonly #entries: ReadonlyMap<string, TunedEntry>[];
  readonly #told = new Set<string>();

  constructor(tables: readonly NamedTable[], onWarning: (message: string) => void) {
    this.#tables = tables;
    this.#onWarning = onWarning;
    this.#entries = tables.map(({ table }) => {
      const all = Object.entries(table.kernels).flatMap(([name, { entries }]) =>
        entries.map((entry) => [`${name} ${keyText(entry.key)}`, entry] as const),
      );
      return new Map(all);
    });
  }

  find(module: KernelModule, dims: Dims, options: Chosen<Space>): Chosen<Space> | undefined {
    if (this.#tables.length === 0) return undefined;
    const place = `${module.name} ${keyText(module.tables.key(dims, options))}`;
    for (const [at, { table, where }] of this.#tables.entries()) {
      const entry = this.#entries[at].get(place);
      if (!entry) continue;
      const tuning = { ...module.choose(dims, options), ...entry.tuning };
      const why = staleness(module, table, entry) ?? module.refuse({ dims, options, tuning });
      if (why === undefined) return tuning;
      this.#warn(module, where, why);
    }
    return undefined;
  }

  #warn({ name }: KernelModule, where: string, why: string): void {
    const key = `${name} ${where}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#onWarning(`${where}: a tuning of ${name} is left out (${why}); \`rose tune ${name}\` measures again`);
  }
}

/** Why an entry does not fit the kernel as it is; undefined where it does. */
function staleness(module: KernelModule, table: TuningTable, { tuning }: TunedEntry): string | undefined {
  const { version } = table.kernels[module.name];
  if (version !== module.tables.version) {
    return `it is for version ${version} of its tuning, and this is version ${module.tables.version}`;
  }
  const decides = module.tables.order.find((name) => name in tuning);
  if (decides !== undefined) return `${decides} decides the order of a sum, which no table may do`;
  const missing = tunableNames(module).find((name) => !(name in tuning));
  if (missing !== undefined) return `it has no ${missing}`;
  for (const [name, value] of Object.entries(tuning)) {
    if (!module.tuning[name]?.includes(value)) return `${name} is ${String(value)}, which is not known`;
  }
  return undefined;
}

/** A key as text, whatever the order of its names. */
export function keyText(key: Readonly<Record<string, Choice>>): string {
  return JSON.stringify(Object.entries(key).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** By one name after the other, numbers by their size. */
function compareKeys(a: TunedEntry['key'], b: TunedEntry['key']): number {
  for (const name of Object.keys(a).toSorted().toReversed()) {
    if (a[name] === b[name]) continue;
    return a[name] < b[name] ? -1 : 1;
  }
  return 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isEntry(value: unknown): boolean {
  return (
    isRecord(value) && isRecord(value['key']) && isRecord(value['tuning']) && typeof value['microseconds'] === 'number'
  );
}
