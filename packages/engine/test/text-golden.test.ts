import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openText } from '../src/text/open.ts';
import { decodeAll } from '../src/text/vocabulary.ts';

const bundled = (name: string): string => fileURLToPath(new URL(`../../../models/${name}`, import.meta.url));

interface ChatCase {
  readonly text?: string;
  readonly messages?: { role: string; content: string }[];
  readonly prompt: string;
  readonly input_ids: number[];
  readonly greedy_ids: number[];
  readonly greedy_text: string;
}

async function golden<T>(model: string): Promise<T[]> {
  const json = JSON.parse(await readFile(`${bundled(model)}/golden.json`, 'utf8')) as { cases: T[] };
  assert.ok(json.cases.length > 0);
  return json.cases;
}

describe('the bundled models give the ids of their golden files', () => {
  it('tiny-chat: prompts, conversations and continuations', async () => {
    const { pool, vocabulary } = await openText(bundled('tiny-chat'));
    try {
      for (const { messages, text, prompt, input_ids, greedy_ids, greedy_text } of await golden<ChatCase>(
        'tiny-chat',
      )) {
        const source = messages
          ? ({ kind: 'messages', messages } as const)
          : ({ kind: 'text', text: text ?? '' } as const);
        assert.deepEqual([...(await pool.encodePrompt(source))], input_ids);
        const special = await pool.encodePrompt({ kind: 'text', text: prompt, parseSpecial: true });
        assert.deepEqual([...special], input_ids);
        const ids = Int32Array.from(greedy_ids);
        assert.equal(await pool.decode(ids, { keepSpecial: true }), greedy_text);
        assert.equal(decodeAll(vocabulary.detokenizer({ keepSpecial: true }), ids), greedy_text);
      }
    } finally {
      await pool.close();
    }
  });

  it('tiny-embed: texts', async () => {
    const { pool } = await openText(bundled('tiny-embed'));
    try {
      const cases = await golden<{ text: string; input_ids: number[] }>('tiny-embed');
      const texts = cases.map(({ text }) => text);
      const inputs = await pool.encodeTexts(texts, { maxTokens: 512, truncate: false });
      inputs.forEach(({ tokens, types }, i) => {
        assert.deepEqual([...tokens], cases[i].input_ids);
        assert.deepEqual(types, new Int32Array(tokens.length));
      });
    } finally {
      await pool.close();
    }
  });

  it('tiny-rerank: pairs with token types', async () => {
    const { pool } = await openText(bundled('tiny-rerank'));
    try {
      type Case = { query: string; text: string; input_ids: number[]; token_type_ids: number[] };
      const cases = await golden<Case>('tiny-rerank');
      const inputs = await pool.encodePairs(cases, { maxTokens: 512, truncate: false });
      inputs.forEach(({ tokens, types }, i) => {
        assert.deepEqual([...tokens], cases[i].input_ids);
        assert.deepEqual([...types], cases[i].token_type_ids);
      });
    } finally {
      await pool.close();
    }
  });
});
