import { bytes, say, statusLine } from './output.ts';

/** How far the download of one file is. */
interface FileProgress {
  readonly file: string;
  readonly bytes: number;
  /** Size of the whole file. */
  readonly total: number;
}

export interface DownloadProgress {
  readonly update: (event: FileProgress) => void;
  /** Nothing more comes. */
  readonly end: () => void;
}

const BAR_WIDTH = 24;

/** Shows a download: a line for each file, and on a terminal a bar while it comes. */
export function downloadProgress(): DownloadProgress {
  const status = statusLine();
  const started = new Map<string, { readonly at: number; readonly bytes: number }>();
  return {
    update({ file, bytes: have, total }) {
      const start = started.get(file);
      if (!start) {
        started.set(file, { at: performance.now(), bytes: have });
        if (!process.stderr.isTTY) say(`downloading ${file} (${bytes(total)})`);
      }
      if (have < total) {
        // What an earlier attempt left on the disk is progress, but not speed.
        const seconds = start ? (performance.now() - start.at) / 1000 : 0;
        const speed = start && seconds > 0 ? `, ${bytes((have - start.bytes) / seconds)}/s` : '';
        status.show(`${bar(have / total)} ${bytes(have)} of ${bytes(total)}${speed}  ${file}`);
        return;
      }
      status.clear();
      say(`downloaded ${file} (${bytes(total)})`);
    },
    end: () => status.clear(),
  };
}

export function bar(share: number): string {
  const full = Math.floor(share * BAR_WIDTH);
  return `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)} ${Math.floor(share * 100)} %`;
}
