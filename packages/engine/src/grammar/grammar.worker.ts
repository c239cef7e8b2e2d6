import { parentPort, workerData } from 'node:worker_threads';
import { assert, RoseError } from '../errors.ts';
import { readTokenizerFiles } from '../text/files.ts';
import { GrammarCompilers, type GrammarSession } from './matcher.ts';
import { At, type FromGrammarWorker, type GrammarWorkerData, type ToGrammarWorker } from './protocol.ts';
import { GrammarVocabulary } from './vocabulary.ts';

type OpenMessage = Extract<ToGrammarWorker, { kind: 'open' }>;

assert(parentPort !== null, 'the grammar worker was started outside an engine');
const port = parentPort;
const { directory, vocabSize, endTokens, at } = workerData as GrammarWorkerData;
const sessions = new Map<number, GrammarSession>();

function post(message: FromGrammarWorker): void {
  port.postMessage(message, []);
}

/** Work for a session, in sight of the other side: if it does not come to an end, the session is the one to blame. */
async function atWork(session: number, work: () => Promise<void>): Promise<void> {
  Atomics.store(at, At.SESSION, session);
  Atomics.add(at, At.ACTS, 1);
  await work();
  Atomics.add(at, At.ACTS, 1);
}

async function open({ session, source, tokens, words }: OpenMessage): Promise<void> {
  try {
    sessions.set(session, await compilers.session(source, tokens, words));
    post({ kind: 'opened', session });
  } catch (error) {
    // The library's own faults leave its memory in any state: they end the worker.
    if (!(error instanceof RoseError)) throw error;
    post({ kind: 'refused', session, error: error.toJSON() });
  }
}

async function act(message: ToGrammarWorker): Promise<void> {
  switch (message.kind) {
    case 'open':
      return atWork(message.session, () => open(message));
    case 'advance':
      for (const [i, number] of message.sessions.entries()) {
        const session = sessions.get(number);
        if (session !== undefined) await atWork(number, () => session.advance(message.tokens[i]));
      }
      return;
    case 'close':
      sessions.get(message.session)?.close();
      sessions.delete(message.session);
  }
}

const compilers = await GrammarCompilers.open(
  new GrammarVocabulary(await readTokenizerFiles(directory), vocabSize),
  endTokens,
);
// One after the other, in the order in which they came.
let last: Promise<void> = Promise.resolve();
port.on('message', (message: ToGrammarWorker) => {
  last = last.then(() => act(message));
});
post({ kind: 'ready' });
