import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WorkerGrammars } from '../src/grammar/grammars.ts';
import { grammarOf } from '../src/grammar/structure.ts';
import { bundled } from './tokenizers.ts';

test('a grammar that takes too long is refused, however many come after it, and the next one works', async () => {
  const data = { directory: bundled('tiny-chat'), vocabSize: 6144, endTokens: [2] };
  const grammars = new WorkerGrammars(data, 8000);
  try {
    const slow = grammars.open(grammarOf({ form: { kind: 'regex', pattern: '(a?b?c?){2048}' }, param: 'slow' }));
    const outcome = slow.then(
      () => undefined,
      (error: Error) => error,
    );
    const fast = grammarOf({ form: { kind: 'choice', choices: ['a'] }, param: 'fast' });
    // Each comes before the time of the one in front of it is over.
    const later: Promise<unknown>[] = [];
    const timer = setInterval(() => void later.push(grammars.open(fast).catch((error: unknown) => error)), 2000);
    const error = await outcome;
    clearInterval(timer);
    assert.match(error?.message ?? 'it was compiled', /^slow: the grammar takes longer than 8 s/);
    await Promise.all(later);
    const mask = await grammars.open(fast);
    assert.ok(mask.wait());
    mask.close();
  } finally {
    grammars.close();
  }
});
