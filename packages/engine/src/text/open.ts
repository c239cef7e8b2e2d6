import { Worker } from 'node:worker_threads';
import { WorkerPool } from './pool.ts';
import type { TextWorkerData } from './protocol.ts';
import type { TextPool, Vocabulary } from './text.ts';
import { TableVocabulary } from './vocabulary.ts';

const WORKER = new URL(import.meta.url.endsWith('.ts') ? './text.worker.ts' : './text.worker.js', import.meta.url);

/**
 * Opens a model directory's tokenizer and chat template. Throws a RoseError that names the file when one is missing,
 * invalid, or of a kind Rose does not know; nothing is left running then.
 *
 * Each worker holds its own copy of the vocabulary (about 110 MB for 100,000 tokens), so there is one unless a server
 * has long texts and many clients.
 */
export async function openText(
  directory: string,
  options: { readonly workers?: number } = {},
): Promise<{ pool: TextPool; vocabulary: Vocabulary }> {
  const workerData: TextWorkerData = { directory };
  const { pool, tables } = await WorkerPool.open(() => new Worker(WORKER, { workerData }), options.workers ?? 1);
  return { pool, vocabulary: new TableVocabulary(tables) };
}
