import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedMemoryRegions } from '../src/shared-memory/regions.ts';
import { readInferRequest } from '../src/triton/infer-request.ts';
import { readGenerateBody } from '../src/triton/generate-request.ts';
import { embedding } from '../src/triton/embed.ts';
import { TritonError } from '../src/triton/errors.ts';
import { generating } from '../src/triton/generate.ts';
import { checkRequest } from '../src/triton/validate.ts';
import { fakeHub } from './fake-hub.ts';
import { random } from './random.ts';
import { serve } from './serving.ts';

const hub = fakeHub();
const embed = embedding.describe(hub.get('embed'));
const chat = generating.describe(hub.get('chat'));
const LIMIT = 1_000_000;
const regions = new SharedMemoryRegions(false);

function binaryBody(): { body: Buffer; header: number } {
  const json = Buffer.from(
    JSON.stringify({
      id: '1',
      inputs: [
        { name: 'TEXT', shape: [2, 1], datatype: 'BYTES', parameters: { binary_data_size: 11 } },
        {
          name: 'INPUT_IDS',
          shape: [2, 2],
          datatype: 'INT64',
          data: [
            [1, 2],
            [3, 4],
          ],
        },
      ],
      outputs: [{ name: 'EMBEDDING', parameters: { binary_data: true } }],
    }),
  );
  const tensor = Buffer.from([2, 0, 0, 0, 97, 98, 1, 0, 0, 0, 99]);
  return { body: Buffer.concat([json, tensor]), header: json.length };
}

test('mutated binary requests are read, or refused with a reason', () => {
  const { integer, pick } = random(11);
  const { body, header } = binaryBody();
  const bytes = [0, 1, 0x22, 0x2c, 0x2d, 0x30, 0x39, 0x5b, 0x5d, 0x7b, 0x7d, 0x7f, 0xff];
  let read = 0;
  for (let round = 0; round < 8000; round++) {
    let mutant = Buffer.from(body);
    for (let edits = integer(4); edits >= 0; edits--) mutant[integer(mutant.length)] = pick(bytes);
    if (integer(4) === 0) mutant = mutant.subarray(0, integer(mutant.length + 1));
    const length = integer(3) === 0 ? String(integer(body.length + 20) - 10) : String(header);
    try {
      const request = readInferRequest(mutant, length, embed, LIMIT, regions.use());
      checkRequest(embed, request.inputs, undefined, request.id);
      read++;
    } catch (error) {
      assert.ok(error instanceof TritonError, String(error));
      assert.ok(error.message.length > 10, error.message);
    }
  }
  assert.ok(read > 50);
});

test('mutated generate bodies are read, or refused with a reason', () => {
  const { integer, pick } = random(13);
  const source =
    '{"text_input":"a","stream":false,"max_tokens":5,"temperature":0.5,"parameters":{"n":1},"stop_words":["a","b"]}';
  const pieces = [
    '"',
    '{}',
    '[',
    ']',
    ',',
    ':',
    '\\',
    '-1',
    '1e400',
    'null',
    'true',
    '[[1]]',
    '"x"',
    '18446744073709551616',
  ];
  let read = 0;
  for (let round = 0; round < 8000; round++) {
    let text = source;
    for (let edits = integer(3); edits >= 0; edits--) {
      const at = integer(text.length);
      text = text.slice(0, at) + pick(pieces) + text.slice(at + integer(6));
    }
    try {
      const request = readGenerateBody(Buffer.from(text), chat, LIMIT);
      checkRequest(chat, request.inputs, undefined, request.id);
      read++;
    } catch (error) {
      assert.ok(error instanceof TritonError, `${text}: ${String(error)}`);
    }
  }
  assert.ok(read > 50);
});

test('mutated requests over the wire are always answered, and leave nothing running', async (t) => {
  const { post, hub, log } = await serve(t);
  const { integer, pick } = random(17);
  const { body, header } = binaryBody();
  const valid = Buffer.from('{"text_input":"a","max_tokens":3,"stream":true,"parameters":{"temperature":0.5}}');
  const targets: [path: string, body: Buffer, headers: Record<string, string>][] = [
    ['/v2/models/embed/infer', body, { 'inference-header-content-length': String(header) }],
    ['/v2/models/chat/generate', valid, {}],
    ['/v2/models/chat/generate_stream', valid, {}],
    ['/v1/completions', Buffer.from('{"prompt":["a",[1,2]],"n":2,"logprobs":1,"stop":"x","stream":false}'), {}],
    ['/v1/chat/completions', Buffer.from('{"messages":[{"role":"user","content":"a"}],"stream":true}'), {}],
    ['/v1/embeddings', Buffer.from('{"input":["a","b"],"encoding_format":"base64"}'), {}],
    ['/v1/rerank', Buffer.from('{"model":"rerank","query":"a","documents":["b",{"text":"c"}],"top_n":1}'), {}],
  ];
  for (let round = 0; round < 500; round++) {
    const [path, source, headers] = pick(targets);
    const mutant = Buffer.from(source);
    for (let edits = integer(3); edits >= 0; edits--) mutant[integer(mutant.length)] = 0x20 + integer(95);
    const response = await post(path, mutant, { headers: { 'content-type': 'application/json', ...headers } });
    const text = await response.text();
    const shown = `${path} ${response.status} ${mutant.toString('latin1')} -> ${text.slice(0, 200)}`;
    if (response.status >= 400) assert.ok(JSON.parse(text).error, shown);
    if (response.status === 500) assert.ok(path.startsWith('/v2'), shown);
  }
  assert.equal(hub.active, 0);
  assert.deepEqual(log, []);
});
