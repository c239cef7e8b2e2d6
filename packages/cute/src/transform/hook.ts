import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { mayHaveKernels, transform } from './transform.ts';

/** The tracing runtime beside this file's package, as transformed files of other places can import it. */
export const RUNTIME_URL: string = new URL(
  import.meta.url.endsWith('.ts') ? '../runtime.ts' : '../runtime.js',
  import.meta.url,
).href;

/** Files whose functions may be kernels. Files that were transformed at build time no longer contain the directive. */
const CODE = /^file:(?!.*\/node_modules\/).*\.[cm]?[jt]s(\?.*)?$/;

/** The transform itself speaks about the directive; it is no kernel. */
const OWN = new URL('.', import.meta.url).href;

/** From now on, files with `'use gpu'` are transformed when they are imported, in this thread and those it starts. */
export function installHook(): void {
  registerHooks({
    load(url, context, next) {
      if (!CODE.test(url) || url.startsWith(OWN)) return next(url, context);
      const file = fileURLToPath(url);
      const code = readFileSync(file, 'utf8');
      if (!mayHaveKernels(code)) return next(url, context);
      const source = transform(code, file, { runtime: RUNTIME_URL });
      return source === undefined ? next(url, context) : { format: 'module', source, shortCircuit: true };
    },
  });
}
