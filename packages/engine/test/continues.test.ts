import assert from 'node:assert/strict';
import { copyFile, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startWorker } from '../src/engine/link.ts';
import { openModels } from '../src/serve/hub.ts';
import { bundled, sentencePieceBpe } from './tokenizers.ts';

test('an answer that is shown behind its prompt keeps the space at its beginning', async () => {
  // The weights do not matter: which token is drawn is told.
  const { tokenizer, config } = sentencePieceBpe();
  const vocab = (tokenizer.model as unknown as { vocab: Record<string, number> }).vocab;
  const directory = await mkdtemp(join(tmpdir(), 'rose-continues-'));
  try {
    const from = bundled('tiny-chat');
    await copyFile(join(from, 'config.json'), join(directory, 'config.json'));
    await symlink(join(from, 'model.safetensors'), join(directory, 'model.safetensors'));
    await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(tokenizer));
    await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify(config));
    const hub = await openModels({ models: [{ name: 'model', directory }], threads: 1 }, startWorker);
    try {
      const tell = async (continues?: boolean): Promise<string> => {
        const sampling = { temperature: 0, allowedTokens: [vocab['▁h']] };
        const prompt = { kind: 'text', text: 'el' } as const;
        const options = continues === undefined ? {} : { continues };
        let text = '';
        for await (const event of hub.get('model').generate({ prompt, sampling, maxTokens: 2, ...options })) {
          if (event.kind === 'delta') text += event.text;
        }
        return text;
      };
      assert.equal(await tell(), 'h h');
      assert.equal(await tell(true), ' h h');
    } finally {
      await hub.close();
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
