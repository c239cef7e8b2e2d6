import { once } from 'node:events';
import { styleText } from 'node:util';

/** Results go to stdout; resolves when the reader can take more. */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

/** Everything for people goes to stderr. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function dim(text: string): string {
  return styleText('dim', text, { stream: process.stderr });
}

export function bold(text: string): string {
  return styleText('bold', text, { stream: process.stderr });
}

/** A line on a terminal that is replaced as things go on; nothing elsewhere. */
export interface StatusLine {
  show(text: string): void;
  clear(): void;
}

/** Milliseconds between two states of a line that people can still read. */
const STATUS_MS = 50;

export function statusLine(): StatusLine {
  if (!process.stderr.isTTY) return { show: () => {}, clear: () => {} };
  let shownAt = -Infinity;
  return {
    show(text) {
      const now = performance.now();
      if (now - shownAt < STATUS_MS) return;
      shownAt = now;
      process.stderr.write(`\r\u001b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
    },
    clear: () => void process.stderr.write('\r\u001b[K'),
  };
}

/** The reader of stdout or stderr may leave (`rose ... | head`): then there is nobody left to work for. */
export function endWhenReaderLeaves(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** 1536 -> `1.5 KiB`. */
export function bytes(count: number): string {
  let unit = 0;
  let value = count;
  for (; value >= 1024 && unit < UNITS.length - 1; unit += 1) value /= 1024;
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** 7_870_000 -> `7.9 M`. */
export function amount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} G`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} M`;
  return count >= 1e3 ? `${(count / 1e3).toFixed(1)} k` : count.toFixed(0);
}
