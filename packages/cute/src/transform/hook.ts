import { readFileSync } from 'node:fs';
import { createRequire, registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { mayHaveKernels } from './directive.ts';
import { kept } from './kept.ts';

const SOURCES = import.meta.url.endsWith('.ts');

/** The tracing runtime beside this file's package, as transformed files of other places can import it. */
export const RUNTIME_URL: string = new URL(SOURCES ? '../runtime.ts' : '../runtime.js', import.meta.url).href;

/** Files whose functions may be kernels. Files that were transformed at build time no longer contain the directive. */
const CODE = /^file:(?!.*\/node_modules\/).*\.[cm]?[jt]s(\?.*)?$/;

/** The transform itself speaks about the directive; it is no kernel. */
const OWN = new URL('.', import.meta.url).href;

/** The transform is loaded with the first kernel: most programs that have the hook never see one. */
function load(): typeof import('./transform.ts') {
  return createRequire(import.meta.url)(
    SOURCES ? './transform.ts' : './transform.js',
  ) as typeof import('./transform.ts');
}

/** From now on, files with `'use gpu'` are transformed when they are imported, in this thread and those it starts. */
export function installHook(): void {
  registerHooks({
    load(url, context, next) {
      if (!CODE.test(url) || url.startsWith(OWN)) return next(url, context);
      const file = fileURLToPath(url);
      const code = readFileSync(file, 'utf8');
      if (!mayHaveKernels(code)) return next(url, context);
      const source = kept([RUNTIME_URL, file, code], () => load().transform(code, file, { runtime: RUNTIME_URL }));
      return source === undefined ? next(url, context) : { format: 'module', source, shortCircuit: true };
    },
  });
}
