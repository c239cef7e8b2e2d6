import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RoseError, type ErrorCode } from '../../src/errors.ts';

/** Directory of a reference checkpoint. */
export function reference(name: string): string {
  return fileURLToPath(new URL(`../../../../test/checkpoints/${name}`, import.meta.url));
}

/** A new directory, gone when the process ends. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'rose-test-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

process.setMaxListeners(0);

/** A copy of a reference checkpoint that a test may damage. */
export function copyOf(name: string): string {
  const directory = temporaryDirectory();
  cpSync(reference(name), directory, { recursive: true });
  return directory;
}

/** Change fields of a JSON file; `undefined` removes one. */
export function change(directory: string, file: string, fields: Record<string, unknown>): void {
  const path = join(directory, file);
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...fields }));
}

export type Header = Record<string, unknown>;

/** The bytes of a safetensors file; `header` may be any text. */
export function safetensors(header: Header | string | Uint8Array, data: Uint8Array): Uint8Array {
  const json =
    header instanceof Uint8Array ? header : Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.byteLength + data.byteLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  file.set(json, 8);
  file.set(data, 8 + json.byteLength);
  return file;
}

/** Header and data of a file. */
export function takeApart(path: string): { header: Header; data: Uint8Array } {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  return { header: JSON.parse(file.toString('utf8', 8, 8 + length)), data: file.subarray(8 + length) };
}

/** Write a directory's `model.safetensors` anew, its tensors' entries changed by `edit`. */
export function rewrite(directory: string, edit: (header: Header) => void): void {
  const path = join(directory, 'model.safetensors');
  const { header, data } = takeApart(path);
  edit(header);
  writeFileSync(path, safetensors(header, data));
}

/** For assert.throws and assert.rejects: a RoseError with this code and message. */
export function roseError(code: ErrorCode, message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof RoseError, `not a RoseError: ${String(error)}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
}

/** Files of this process that are open under a directory (Linux; elsewhere none are seen). */
export function openFilesUnder(directory: string): string[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(directory) ? [target] : [];
    } catch {
      return [];
    }
  });
}
