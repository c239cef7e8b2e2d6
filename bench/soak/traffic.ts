import type { RandomBits } from '../models/random.ts';
import type { Call, Reply } from './client.ts';

/** A request, and what its answer must be like: undefined if it is so, else what is wrong. */
export interface Case {
  readonly kind: string;
  readonly call: Call;
  readonly wrong: (reply: Reply) => string | undefined;
}

const CHAT = 'tiny-chat';
const STEMS = Array.from({ length: 4 }, (_, i) =>
  Array.from({ length: 60 }, (_, j) => ['bear', 'key', 'tree', 'boat', 'moon'][(i * 7 + j * j) % 5]).join(' '),
);
const SCHEMA = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 8 }, age: { type: 'integer', minimum: 0, maximum: 99 } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const TOOL = { type: 'function', function: { name: 'find', description: 'Find a thing', parameters: SCHEMA } };

/** Draws a request of any kind. */
export function drawCase(bits: RandomBits): Case {
  const kinds = Object.keys(CASES);
  const weights = kinds.map((kind) => CASES[kind].weight);
  let at = bits.below(weights.reduce((a, b) => a + b));
  const kind = kinds[weights.findIndex((weight) => (at -= weight) < 0)];
  const tenant = `key-${bits.below(4)}`;
  const { call, wrong } = CASES[kind].draw(bits);
  return { kind, call: { tenant, ...call }, wrong };
}

interface Drawn {
  readonly call: Call;
  readonly wrong: Case['wrong'];
}

const chat = (body: object): Call => ({ path: '/v1/chat/completions', body: { model: CHAT, ...body } });
const say = (bits: RandomBits): object[] => [
  { role: 'user', content: `${bits.below(2) ? `${STEMS[bits.below(4)]} ` : ''}tell story ${bits.below(1000)}` },
];
const sampling = (bits: RandomBits): object => ({
  max_tokens: 1 + bits.below(120),
  temperature: bits.below(3) / 2,
  ...(bits.below(3) === 0 && { seed: bits.below(1000) }),
  ...(bits.below(4) === 0 && { top_p: 0.9, top_k: 40 }),
  ...(bits.below(4) === 0 && { repetition_penalty: 1.2, presence_penalty: 0.5 }),
  ...(bits.below(4) === 0 && { stop: ['bear', '.'] }),
});

/** What requests have in common that the server should answer. */
function answered(check: (reply: Reply) => string | undefined): Case['wrong'] {
  return (reply) => (reply.status === 200 ? check(reply) : `status ${reply.status}: ${reply.body.slice(0, 300)}`);
}
const streamed = answered(({ body }) =>
  body.endsWith('data: [DONE]\n\n') ? undefined : `no end: ${body.slice(-300)}`,
);
const hungUp = (): undefined => undefined;
const refused: Case['wrong'] = ({ status, body }) =>
  (status >= 400 && status < 500) || isTritonsOwn(status, body)
    ? undefined
    : `status ${status} for bad input: ${body.slice(0, 300)}`;

/** JSON that does not fit a tensor gets 500 from Triton, and so from all who speak its protocol. */
function isTritonsOwn(status: number, body: string): boolean {
  return status === 500 && body.startsWith('{"error":"Unable to parse JSON bytes array');
}

const CASES: Readonly<Record<string, { weight: number; draw: (bits: RandomBits) => Drawn }>> = {
  'chat, streamed': {
    weight: 20,
    draw: (bits) => ({ call: chat({ messages: say(bits), stream: true, ...sampling(bits) }), wrong: streamed }),
  },
  chat: {
    weight: 10,
    draw: (bits) => {
      const n = 1 + bits.below(3);
      const wrong = answered(({ body }) =>
        (JSON.parse(body) as { choices: object[] }).choices.length === n ? undefined : 'not n choices',
      );
      return { call: chat({ messages: say(bits), n, ...sampling(bits) }), wrong };
    },
  },
  completions: {
    weight: 10,
    draw: (bits) => {
      const prompt = Array.from({ length: 1 + bits.below(400) }, () => 10 + bits.below(900));
      const body = { model: CHAT, prompt, stream: bits.below(2) === 0, logprobs: bits.below(4), ...sampling(bits) };
      return { call: { path: '/v1/completions', body }, wrong: body.stream ? streamed : answered(hungUp) };
    },
  },
  'a long prompt': {
    weight: 2,
    draw: (bits) => {
      const prompt = Array.from({ length: 1000 + bits.below(900) }, () => 10 + bits.below(900));
      return {
        call: { path: '/v1/completions', body: { model: CHAT, prompt, max_tokens: 16 } },
        wrong: answered(hungUp),
      };
    },
  },
  // Several of these outgrow the pages there are: some have to yield and are computed anew.
  'a long answer': {
    weight: 6,
    draw: (bits) => {
      const wanted = 400 + bits.below(1000);
      const prompt = Array.from({ length: 1 + bits.below(20) }, () => 10 + bits.below(900));
      return {
        call: { path: '/v1/completions', body: { model: CHAT, prompt, max_tokens: wanted, ignore_eos: true } },
        wrong: answered(({ body }) => {
          const { completion_tokens: tokens } = (JSON.parse(body) as { usage: { completion_tokens: number } }).usage;
          return tokens === wanted ? undefined : `${tokens} tokens instead of ${wanted}`;
        }),
      };
    },
  },
  'triton, streamed': {
    weight: 5,
    draw: (bits) => {
      const body = { text_input: STEMS[bits.below(4)], stream: true, max_tokens: 1 + bits.below(60) };
      return { call: { path: `/v2/models/${CHAT}/generate_stream`, body }, wrong: answered(hungUp) };
    },
  },
  embeddings: {
    weight: 10,
    draw: (bits) => {
      const input = Array.from({ length: 1 + bits.below(8) }, () => STEMS[bits.below(4)].slice(0, 1 + bits.below(200)));
      const wrong = answered(({ body }) =>
        (JSON.parse(body) as { data: object[] }).data.length === input.length ? undefined : 'not as many embeddings',
      );
      return { call: { path: '/v1/embeddings', body: { model: 'tiny-embed', input } }, wrong };
    },
  },
  rerank: {
    weight: 5,
    draw: (bits) => {
      const documents = Array.from({ length: 1 + bits.below(6) }, () => STEMS[bits.below(4)].slice(0, 100));
      return {
        call: { path: '/v1/rerank', body: { model: 'tiny-rerank', query: 'a bear', documents } },
        wrong: answered(hungUp),
      };
    },
  },
  'hung up': {
    weight: 15,
    draw: (bits) => ({
      call: {
        ...chat({ messages: say(bits), stream: bits.below(2) === 0, max_tokens: 300 }),
        cancelMs: bits.below(1500),
      },
      wrong: ({ status, body }) =>
        status === 0 || status === 200 ? undefined : `status ${status}: ${body.slice(0, 300)}`,
    }),
  },
  'a slow reader': {
    weight: 3,
    draw: (bits) => ({
      call: { ...chat({ messages: say(bits), stream: true, max_tokens: 200 }), sleepMs: 500 + bits.below(2500) },
      wrong: streamed,
    }),
  },
  'structured output': {
    weight: 3,
    draw: (bits) => ({
      call: chat({
        messages: say(bits),
        max_tokens: 200,
        response_format: { type: 'json_schema', json_schema: { name: 'one', strict: true, schema: SCHEMA } },
      }),
      wrong: answered(validAnswer),
    }),
  },
  tools: {
    weight: 2,
    draw: (bits) => ({
      call: chat({ messages: say(bits), max_tokens: 60, tools: [TOOL], stream: bits.below(2) === 0 }),
      // A model whose template shows no tools refuses them.
      wrong: ({ status, body }) =>
        status === 200 || status === 400 ? undefined : `status ${status}: ${body.slice(0, 300)}`,
    }),
  },
  'bad input': {
    weight: 15,
    draw: (bits) => ({ call: BAD[bits.below(BAD.length)], wrong: refused }),
  },
};

function validAnswer({ body }: Reply): string | undefined {
  const [choice] = (JSON.parse(body) as { choices: { message: { content: string }; finish_reason: string }[] }).choices;
  if (choice.finish_reason === 'length') return undefined;
  const answer = JSON.parse(choice.message.content) as { name?: unknown; age?: unknown };
  const valid = typeof answer.name === 'string' && Number.isInteger(answer.age) && Object.keys(answer).length === 2;
  return valid ? undefined : `not of the schema: ${choice.message.content}`;
}

const BAD: readonly Call[] = [
  { path: '/v1/chat/completions', body: '{"model": "tiny-chat", "messages": [' },
  { path: '/v1/chat/completions', body: '[]' },
  { path: '/v1/chat/completions', body: '' },
  chat({}),
  chat({ messages: [] }),
  chat({ messages: 'hello' }),
  chat({ messages: [{ role: '', content: 'x' }] }),
  chat({ messages: [{ role: 'user', content: 'x' }], temperature: -1 }),
  chat({ messages: [{ role: 'user', content: 'x' }], temperature: 'hot' }),
  chat({ messages: [{ role: 'user', content: 'x' }], n: 100_000 }),
  chat({ messages: [{ role: 'user', content: 'x' }], max_tokens: -5 }),
  chat({ messages: [{ role: 'user', content: 'x' }], logit_bias: { x: 1 } }),
  chat({ messages: [{ role: 'user', content: 'word '.repeat(5000) }] }),
  chat({ messages: [{ role: 'user', content: 'x' }], stop: 5 }),
  { path: '/v1/completions', body: { model: CHAT, prompt: [99_999_999] } },
  { path: '/v1/completions', body: { model: CHAT, prompt: [-1] } },
  { path: '/v1/completions', body: { model: 'nobody', prompt: 'x' } },
  { path: '/v1/embeddings', body: { model: 'tiny-embed', input: [] } },
  { path: '/v1/embeddings', body: { model: CHAT, input: 'x' } },
  { path: '/v1/embeddings', body: { model: 'tiny-embed', input: 'x', dimensions: -1 } },
  { path: '/v1/rerank', body: { model: 'tiny-rerank', query: 'x', documents: 'y' } },
  { path: '/v2/models/nobody/generate_stream', body: { text_input: 'x' } },
  { path: `/v2/models/${CHAT}/generate`, body: { text_input: 5, max_tokens: 'many' } },
  { path: `/v2/models/tiny-embed/infer`, body: { inputs: [{ name: 'text', shape: [-1], datatype: 'BYTES' }] } },
  { path: '/v1/nothing', body: {} },
  { method: 'GET', path: '/v1/chat/completions' },
];
