import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isAlike, parseTuningTable, Tunings, type NamedTable, type TunedDevice } from './tuning-table.ts';

/** Tables that come with Rose, one a device. */
const SHIPPED = fileURLToPath(new URL('tables', import.meta.url));

export interface TuningFiles {
  /** Where `rose tune` keeps what it measured, beside the compiled kernels: @rose/cuda's `cacheDirectory('tuning')`. */
  readonly directory?: string;
  /**
   * One file instead of that of the directory, which goes before what comes with Rose; `none`: no table at all. Default:
   * `$ROSE_TUNE_TABLE`, where it is set.
   */
  readonly file?: string | undefined;
  /** Told of what is left out. Default: process.emitWarning. */
  readonly onWarning?: (message: string) => void;
}

/**
 * The tunings that count for a device: its own of this machine, then what comes with Rose for it, then for one with the
 * same chip. A file that cannot be read is left out with a warning: nothing depends on it but speed.
 */
export function tuningsFor(device: TunedDevice, options: TuningFiles = {}): Tunings {
  const { directory, onWarning = (message: string) => process.emitWarning(message) } = options;
  const file = options.file ?? (process.env['ROSE_TUNE_TABLE'] || undefined);
  if (file === 'none') return new Tunings([], onWarning);
  const own = file === undefined ? undefined : readTable(file, onWarning);
  if (own && !isAlike(own.table.device, device)) {
    const { name, arch, multiprocessors } = own.table.device;
    onWarning(`${file}: it was measured on ${name} (${arch}, ${multiprocessors} multiprocessors) and is left out here`);
  }
  const kept =
    file === undefined && directory !== undefined
      ? readTable(join(directory, tableName(device)), onWarning, true)
      : own;
  const shipped = shippedTables().toSorted((a, b) => sameName(b, device) - sameName(a, device));
  const tables = [...(kept ? [kept] : []), ...shipped].filter(({ table }) => isAlike(table.device, device));
  return new Tunings(tables, onWarning);
}

/** The tables that come with Rose. */
export function shippedTables(): NamedTable[] {
  return readdirSync(SHIPPED)
    .filter((name) => name.endsWith('.json'))
    .map((name) => {
      return { table: parseTuningTable(readFileSync(join(SHIPPED, name), 'utf8'), name), where: `Rose's ${name}` };
    });
}

/** The name of a device's table: `nvidia-h100-80gb-hbm3.json`. */
export function tableName({ name }: Pick<TunedDevice, 'name'>): string {
  return `${name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')}.json`;
}

function sameName({ table }: NamedTable, { name }: TunedDevice): number {
  return table.device.name === name ? 1 : 0;
}

/** `optional`: there need not be one. */
function readTable(path: string, onWarning: (message: string) => void, optional = false): NamedTable | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (!optional || (error as NodeJS.ErrnoException).code !== 'ENOENT')
      onWarning(`${path} cannot be read and is left out: ${(error as Error).message}`);
    return undefined;
  }
  try {
    return { table: parseTuningTable(text, path), where: path };
  } catch (error) {
    onWarning(`${(error as Error).message}; it is left out`);
    return undefined;
  }
}
