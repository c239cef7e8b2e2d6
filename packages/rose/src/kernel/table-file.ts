import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { emptyTable, formatTuningTable, parseTuningTable, type TunedDevice, type TuningTable } from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';

/** The table in a file, to be added to; an empty one where there is no file. Throws CommandError for another device's. */
export function openTable(path: string, device: TunedDevice): TuningTable {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return emptyTable(device);
    throw new CommandError(ExitCode.usage, `${path} cannot be read: ${(error as Error).message}.`, { cause: error });
  }
  let table: TuningTable;
  try {
    table = parseTuningTable(text, path);
  } catch (error) {
    const advice = 'remove it, or name another file with --output';
    throw new CommandError(ExitCode.usage, `${(error as Error).message}: ${advice}.`, { cause: error });
  }
  if (table.device.name === device.name) return table;
  throw new CommandError(
    ExitCode.usage,
    `${path} has what was measured on ${table.device.name}, and this is ${device.name}: name another file with --output.`,
  );
}

/** Writes a table so that a reader sees the whole old one or the whole new one. Throws CommandError. */
export function saveTable(path: string, table: TuningTable): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, formatTuningTable(table));
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new CommandError(ExitCode.usage, `${path} cannot be written: ${(error as Error).message}.`, { cause: error });
  }
}
