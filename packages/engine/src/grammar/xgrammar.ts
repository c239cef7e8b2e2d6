import { readFileSync } from 'node:fs';
import { createRequire, registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import type * as XGrammar from '@mlc-ai/web-xgrammar';

export type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';

/**
 * web-xgrammar with a WebAssembly instance of its own. The package says that it is an ES module, but holds a CommonJS
 * one (0.1.27), so Node.js has to be told.
 */
export function loadXGrammar(): typeof XGrammar {
  const url = import.meta.resolve('@mlc-ai/web-xgrammar');
  const hooks = registerHooks({
    load: (asked, context, next) =>
      asked === url
        ? { format: 'commonjs', source: readFileSync(fileURLToPath(url), 'utf8'), shortCircuit: true }
        : next(asked, context),
  });
  try {
    const require = createRequire(import.meta.url);
    const loaded = require('@mlc-ai/web-xgrammar') as typeof XGrammar;
    // The next one is to have its own instance.
    delete require.cache[fileURLToPath(url)];
    return loaded;
  } finally {
    hooks.deregister();
  }
}
