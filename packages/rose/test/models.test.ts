import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rose, start } from './rose.ts';

const GREEDY = ['--temperature', '0', '--max-tokens', '12'];

test('rose generate streams an answer, the same for the same request', async () => {
  const [once, again] = await Promise.all([
    rose(['generate', 'Once upon a time', ...GREEDY]),
    rose(['generate', ...GREEDY], 'Once upon a time'),
  ]);
  assert.equal(once.code, 0, once.stderr);
  assert.match(once.stdout, /\w+ \w+.*\n$/);
  assert.equal(again.stdout, once.stdout, 'an argument and stdin are the same prompt');
});

test('rose generate holds an answer to a form', async () => {
  const ended = await rose(['generate', 'Once', '--regex', '[ab]{3}-\\d', ...GREEDY]);
  assert.match(ended.stdout, /^[ab]{3}-\d\n$/);
  const refused = await rose(['generate', 'Once', '--json-schema', 'nowhere.json']);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /nowhere\.json cannot be read: ENOENT/);
});

test("rose generate: a prompt beyond the context is the request's fault, in one paragraph", async () => {
  const ended = await rose(['generate'], 'bear '.repeat(4000));
  assert.equal(ended.code, 2);
  assert.match(ended.stderr, /^rose: .*2048.*\n$/);
});

test('rose generate: a reader that leaves ends the command quietly', async () => {
  const running = start(['generate', 'Once upon a time', '--ignore-eos', '--max-tokens', '1500']);
  running.process.stdout!.once('data', () => running.process.stdout!.destroy());
  const ended = await running.ended;
  assert.deepEqual([ended.code, ended.stderr], [0, '']);
});

test('rose generate: SIGINT ends it with 130', async () => {
  const running = start(['generate', 'Once upon a time', '--ignore-eos', '--max-tokens', '1900']);
  await running.until(/\w/);
  running.process.kill('SIGINT');
  const ended = await running.ended;
  assert.deepEqual([ended.code, ended.stderr], [130, '']);
});

test('rose chat answers each line and remembers the one before', async () => {
  const ended = await rose(['chat', ...GREEDY], 'Hello!\nTell me a story about a bear.\n/exit\nnot answered\n');
  assert.equal(ended.code, 0, ended.stderr);
  const [hello, story, ...rest] = ended.stdout.trimEnd().split('\n');
  assert.match(hello, /\w/);
  assert.match(story, /\w/);
  assert.deepEqual(rest, []);
  const fresh = await rose(['chat', ...GREEDY], 'Tell me a story about a bear.\n');
  const reset = await rose(['chat', ...GREEDY], 'Hello!\n/reset\nTell me a story about a bear.\n');
  assert.deepEqual(reset.stdout.split('\n')[1], fresh.stdout.split('\n')[0], '/reset forgets');
});

test('rose embed prints unit vectors as JSON lines, or cosines', async () => {
  const texts = ['A bear sleeps in a cave.', 'The bear is in its den.', 'The boat is red.'];
  const [vectors, cosines] = await Promise.all([
    rose(['embed', ...texts]),
    rose(['embed', '--similarity'], texts.join('\n')),
  ]);
  assert.equal(vectors.code, 0, vectors.stderr);
  const lines = vectors.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { text: string; embedding: number[] });
  assert.deepEqual(
    lines.map(({ text }) => text),
    texts,
  );
  for (const { embedding } of lines) assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-4);
  const matrix = cosines.stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/ +/).map(Number));
  assert.deepEqual([matrix.length, matrix[0].length], [3, 3]);
  assert.equal(matrix[0][0], 1);
  assert.equal(matrix[0][1], matrix[1][0]);
  assert.ok(matrix[0][1] > matrix[0][2], 'a bear is more like a bear than like a boat');
});

test('rose rerank orders texts, best first', async () => {
  const texts = ['The boat is red.', 'Bears sleep in dens in the forest.', 'She ate an apple.'];
  const ended = await rose(['rerank', 'where do bears sleep', ...texts, '--json']);
  assert.equal(ended.code, 0, ended.stderr);
  const results = ended.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(new Set(results.map(({ index }) => index)), new Set([0, 1, 2]));
  assert.deepEqual(results[0], { ...results[0], index: 1, text: texts[1] });
  const best = await rose(['rerank', 'where do bears sleep', ...texts, '--top-n', '1']);
  assert.match(best.stdout, /^[01]\.\d{4} {2}Bears sleep in dens in the forest\.\n$/);
});

test('rose info says what a model is', async () => {
  const [text, json] = await Promise.all([rose(['info', 'tiny-chat']), rose(['info', 'tiny-rerank', '--json'])]);
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /Qwen3ForCausalLM/);
  assert.equal((JSON.parse(json.stdout) as { architecture: string }).architecture, 'BertForSequenceClassification');
});

test('a model of another kind is refused by name', async () => {
  const ended = await rose(['embed', 'a text', '--model', 'tiny-chat']);
  assert.equal(ended.code, 2);
  assert.match(ended.stderr, /^rose: tiny-chat generates text; this command needs a model that makes embeddings\./);
});

test('rose bench measures what it says', async () => {
  const ended = await rose(['bench', 'tiny-chat', '--repeats', '1', '--json']);
  assert.equal(ended.code, 0, ended.stderr);
  const { machine, figures } = JSON.parse(ended.stdout) as {
    machine: { cores: number };
    figures: { what: string; median: number }[];
  };
  assert.ok(machine.cores > 0);
  assert.deepEqual(
    figures.map(({ what }) => what),
    ['prefill 512 tokens', 'decode, 1 sequence', 'decode, 8 sequences'],
  );
  for (const { median } of figures) assert.ok(Number.isFinite(median) && median > 0);
});
