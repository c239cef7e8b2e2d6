import { closeSync, openSync, statSync } from 'node:fs';
import { invalid, TritonError } from '../triton/errors.ts';

/** The system's codes in a person's words. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or directory',
  EACCES: 'permission denied: the user that the server runs as may not read it',
  EPERM: 'permission denied: the user that the server runs as may not read it',
  EISDIR: 'it is a directory',
  ENOTDIR: 'it is no directory, or leads through what is none',
  ELOOP: 'its links lead in a circle',
  EMFILE: 'the server has too many files open',
  EIO: 'the disk reports an error',
  ESTALE: 'the network file system no longer knows it',
};

/** Why something cannot be read: what the system's error means, or the message of our own. */
export function whyUnreadable(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return REASONS[code ?? ''] ?? message;
}

/**
 * Whoever reads the file later, in a thread or a process of its own, would tell less of why it cannot.
 * @throws TritonError that names the path where it is no file or cannot be read
 */
export function checkReadable(path: string): void {
  try {
    // Opening a pipe could take for ever.
    if (!statSync(path).isFile()) throw invalid(`${path} is no file`);
    closeSync(openSync(path, 'r'));
  } catch (error) {
    throw error instanceof TritonError ? error : invalid(`cannot read ${path}: ${whyUnreadable(error)}`);
  }
}
