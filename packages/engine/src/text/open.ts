import { Worker } from 'node:worker_threads';
import type { Dialect, DialectOptions } from '../answer/dialect.ts';
import { WorkerPool } from './pool.ts';
import type { TextWorkerData } from './protocol.ts';
import type { TextPool, Vocabulary } from './text.ts';
import { TableVocabulary } from './vocabulary.ts';

const WORKER = new URL(import.meta.url.endsWith('.ts') ? './text.worker.ts' : './text.worker.js', import.meta.url);
/** Each thread lets so much garbage lie before it is collected; what is encoded is forgotten at once. V8's own: 48 MB. */
const LIMITS = { maxYoungGenerationSizeMb: 8 };

/**
 * Opens a model directory's tokenizer and chat template. Throws a RoseError that names the file when one is missing,
 * invalid, or of a kind Rose does not know; nothing is left running then.
 *
 * Each worker holds its own copy of the vocabulary (about 110 MB for 100,000 tokens), so there is one unless a server
 * has long texts and many clients.
 */
export async function openText(
  directory: string,
  options: DialectOptions & { readonly workers?: number } = {},
): Promise<{ pool: TextPool; vocabulary: Vocabulary; dialect: Dialect }> {
  const { workers = 1, ...dialect } = options;
  const workerData: TextWorkerData = { directory, dialect };
  const { pool, facts } = await WorkerPool.open(
    () => new Worker(WORKER, { workerData, resourceLimits: LIMITS }),
    workers,
  );
  return { pool, vocabulary: new TableVocabulary(facts.tables), dialect: facts.dialect };
}
