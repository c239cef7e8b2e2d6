import { bytes, say } from './output.ts';

/** How far the download of one file is. */
export interface FileProgress {
  readonly file: string;
  readonly bytes: number;
  /** Size of the whole file. */
  readonly total: number;
}

export interface DownloadProgress {
  readonly update: (event: FileProgress) => void;
  /** No more files come; `failed` if they should have. */
  readonly end: (failed: boolean) => void;
}

/** Shows a download: a bar for each file on a terminal, plain lines elsewhere. */
export async function downloadProgress(): Promise<DownloadProgress> {
  return process.stderr.isTTY ? await bars() : lines();
}

function lines(): DownloadProgress {
  const started = new Set<string>();
  return {
    update({ file, bytes: have, total }) {
      if (!started.has(file)) say(`downloading ${file} (${bytes(total)})`);
      started.add(file);
      if (have === total) say(`downloaded ${file}`);
    },
    end: () => {},
  };
}

/** Steps of a bar; the library draws whole steps only. */
const STEPS = 1000;

async function bars(): Promise<DownloadProgress> {
  const { progress } = await import('@clack/prompts');
  type Bar = { readonly bar: ReturnType<typeof progress>; steps: number };
  const running = new Map<string, Bar>();
  const start = (file: string): Bar => {
    const bar = progress({ max: STEPS, size: 30, output: process.stderr, indicator: 'timer' });
    bar.start(file);
    const entry = { bar, steps: 0 };
    running.set(file, entry);
    return entry;
  };
  return {
    update({ file, bytes: have, total }) {
      const entry = running.get(file) ?? start(file);
      const steps = total === 0 ? STEPS : Math.floor((have / total) * STEPS);
      entry.bar.advance(steps - entry.steps, `${file} ${bytes(have)} of ${bytes(total)}`);
      entry.steps = steps;
      if (have < total) return;
      entry.bar.stop(`${file} ${bytes(total)}`);
      running.delete(file);
    },
    end(failed) {
      for (const [file, { bar }] of running) {
        if (failed) bar.error(file);
        else bar.stop(file);
      }
    },
  };
}
