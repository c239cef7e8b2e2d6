import { parentPort, workerData } from 'node:worker_threads';
import { assert, RoseError } from '../errors.ts';
import { readTokenizerFiles } from '../text/files.ts';
import { GrammarCompilers, type GrammarSession } from './matcher.ts';
import type { FromGrammarWorker, GrammarWorkerData, ToGrammarWorker } from './protocol.ts';
import { GrammarVocabulary } from './vocabulary.ts';

assert(parentPort !== null, 'the grammar worker was started outside an engine');
const port = parentPort;
const sessions = new Map<number, GrammarSession>();

function post(message: FromGrammarWorker): void {
  port.postMessage(message, []);
}

async function act(compilers: GrammarCompilers, message: ToGrammarWorker): Promise<void> {
  switch (message.kind) {
    case 'open': {
      const { session, source, words } = message;
      try {
        sessions.set(session, await compilers.session(source, words));
        post({ kind: 'opened', session });
      } catch (error) {
        post({ kind: 'refused', session, error: RoseError.from(error).toJSON() });
      }
      return;
    }
    case 'advance':
      for (const [i, session] of message.sessions.entries()) await sessions.get(session)?.advance(message.tokens[i]);
      return;
    case 'close':
      sessions.get(message.session)?.close();
      sessions.delete(message.session);
  }
}

const { directory, vocabSize, endTokens } = workerData as GrammarWorkerData;
const compilers = await GrammarCompilers.open(
  new GrammarVocabulary(await readTokenizerFiles(directory), vocabSize),
  endTokens,
);
// One after the other, in the order in which they came.
let last: Promise<void> = Promise.resolve();
port.on('message', (message: ToGrammarWorker) => {
  last = last.then(() => act(compilers, message));
});
post({ kind: 'ready' });
