import { parentPort, workerData } from 'node:worker_threads';
import { assert, RoseError } from '../errors.ts';
import { Codec } from './codec.ts';
import type { FromTextWorker, TextCall, TextResult, TextWorkerData } from './protocol.ts';

assert(parentPort !== null, 'the text worker was started outside a pool');
const port = parentPort;

/** The ids' buffers move; everything else is copied. */
function post(message: FromTextWorker): void {
  const values: unknown[] = message.kind === 'result' ? [message.value].flat() : [];
  const ids = values.flatMap((value) => (value instanceof Int32Array ? value : Object.values(value as object)));
  const buffers = ids.flatMap((array) => (array instanceof Int32Array ? (array.buffer as ArrayBuffer) : []));
  port.postMessage(message, buffers);
}

function answer(codec: Codec, call: TextCall): TextResult {
  switch (call.method) {
    case 'encodePrompt':
      return codec.encodePrompt(...call.args);
    case 'render':
      return codec.render(...call.args);
    case 'encodeTexts':
      return codec.encodeTexts(...call.args);
    case 'encodePairs':
      return codec.encodePairs(...call.args);
    case 'decode':
      return codec.decode(...call.args);
    case 'tokenNames':
      return codec.tokenNames(...call.args);
    case 'configuration':
      return codec.configuration();
  }
}

function fail(error: unknown): void {
  post({ kind: 'failed', error: RoseError.from(error).toJSON() });
}

try {
  const { directory, dialect } = workerData as TextWorkerData;
  const codec = await Codec.open(directory, dialect);
  port.on('message', (call: TextCall) => {
    try {
      post({ kind: 'result', value: answer(codec, call) });
    } catch (error) {
      fail(error);
    }
  });
  post({ kind: 'ready', tables: codec.tables, dialect: codec.dialect });
} catch (error) {
  fail(error);
}
