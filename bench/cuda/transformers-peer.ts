import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { LlamaShape } from '../models/llama-shapes.ts';

/** Beyond its seconds it is ended, whatever it does. */
const GRACE_SECONDS = 10;

/** Parts that transformers finished (`transformers_peer.py`), each as it said them; why it ended early, if it did. */
export interface TransformersFigures {
  readonly parts: readonly object[];
  readonly ended: string;
}

/**
 * Hugging Face transformers on this shape, with what `python3` has installed.
 * @param seconds for all of its parts, the compiled one last
 */
export async function runTransformers(shape: LlamaShape, seconds: number): Promise<TransformersFigures> {
  const script = fileURLToPath(new URL('transformers_peer.py', import.meta.url));
  // A group of its own: compilers are processes, which may outlive it and hold its output open.
  const child = spawn('python3', [script, JSON.stringify(shape), String(seconds)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const parts: object[] = [];
  let said = '';
  child.stderr.on('data', (data: Buffer) => (said = (said + String(data)).slice(-4000)));
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('{')) return;
    console.log(`transformers: ${line}`);
    parts.push(JSON.parse(line) as object);
  });
  const killGroup = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // All of it has ended.
    }
  };
  const limit = setTimeout(killGroup, 1000 * (seconds + GRACE_SECONDS));
  const code = await new Promise<number | string>((resolve) => {
    child.once('error', ({ message }) => resolve(message));
    child.once('exit', (status, signal) => resolve(status ?? signal!));
  });
  clearTimeout(limit);
  killGroup();
  const error = said.trim().split('\n').at(-1);
  return { parts, ended: code === 0 ? 'as planned' : `with ${code}: ${error}` };
}
