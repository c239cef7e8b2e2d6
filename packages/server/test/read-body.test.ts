import assert from 'node:assert/strict';
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ALIGNMENT, readBody } from '../src/http/read-body.ts';

const BYTES = 100_000;
const body = Buffer.from(Uint8Array.from({ length: BYTES }, (_, i) => (i * 7) >> 3));

/** A request as Node.js's parser makes it, with a body of this length to come. */
function request(announced: number | undefined): IncomingMessage {
  const message = new IncomingMessage(new Socket());
  if (announced !== undefined) message.headers['content-length'] = String(announced);
  return message;
}

/** A piece in memory of its own, as the parser makes them. */
function piece(from: number, to: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(to - from);
  body.copy(bytes, 0, from, to);
  return bytes;
}

for (const [name, announced] of [
  ['of a known length', BYTES],
  ['of an unknown length', undefined],
] as const) {
  test(`a body ${name} is whole and in its order, whether pieces came before it was read or after`, async () => {
    for (const aligned of [0, 3]) {
      const message = request(announced);
      // Nobody reads yet: these wait in the stream, and the next ones behind them.
      message.push(piece(0, 10_000));
      message.push(piece(10_000, 10_001));
      const read = readBody(message, BYTES, aligned);
      message.push(piece(10_001, 30_000));
      await turn();
      message.push(piece(30_000, 90_000));
      message.push(piece(90_000, BYTES));
      message.push(null);
      const got = await read;
      assert.ok(got.equals(body));
      if (announced !== undefined) assert.equal((got.byteOffset + aligned) % ALIGNMENT, 0);
    }
  });

  test(`a body ${name} that does not come to its end is refused`, async () => {
    const message = request(announced);
    const read = readBody(message, BYTES);
    message.push(piece(0, 50_000));
    await turn();
    message.push(piece(50_000, 60_000));
    message.destroy();
    await assert.rejects(read, /the connection ended before the body of the request/);
  });
}

test('of a body that is shorter than announced only what came is there', async () => {
  const message = request(BYTES);
  const read = readBody(message, BYTES);
  message.push(piece(0, 20_000));
  message.push(null);
  assert.ok((await read).equals(body.subarray(0, 20_000)));
});
