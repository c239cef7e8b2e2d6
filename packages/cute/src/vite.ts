/** `@rose/cute/vite`: kernels in a bundle, for Vite, Rollup and Rolldown (`rose()`), and for esbuild (`roseEsbuild()`). */
import { readFile } from 'node:fs/promises';
import { mayHaveKernels } from './transform/directive.ts';
import { transform } from './transform/transform.ts';

/** What the bundle imports the tracing runtime from. */
const RUNTIME = '@rose/cute/runtime';

const CODE = /\.[cm]?[jt]s$/;

/** A plugin with the one hook that Vite, Rollup and Rolldown share. */
export interface TransformPlugin {
  readonly name: string;
  /** Vite: before types are stripped. */
  readonly enforce: 'pre';
  transform(code: string, id: string): { code: string; map: null } | undefined;
}

/** Transforms functions marked `'use gpu'`. Put it before plugins that compile TypeScript. */
export function rose(): TransformPlugin {
  return {
    name: 'rose-use-gpu',
    enforce: 'pre',
    transform(code, id) {
      const [file] = id.split('?', 1);
      if (!CODE.test(file) || !mayHaveKernels(code)) return undefined;
      const out = transform(code, file, { runtime: RUNTIME });
      // Lines stay where they are, so that no source map is needed for them.
      return out === undefined ? undefined : { code: out, map: null };
    },
  };
}

/** The part of esbuild's interface for plugins that is used. */
export interface EsbuildBuild {
  onLoad(
    options: { filter: RegExp },
    load: (args: { path: string }) => Promise<{ contents: string; loader: 'js' } | undefined>,
  ): void;
}

/** The same for esbuild. */
export function roseEsbuild(): { readonly name: string; setup(build: EsbuildBuild): void } {
  return {
    name: 'rose-use-gpu',
    setup(build) {
      build.onLoad({ filter: CODE }, async ({ path }) => {
        const code = await readFile(path, 'utf8');
        if (!mayHaveKernels(code)) return undefined;
        const contents = transform(code, path, { runtime: RUNTIME });
        return contents === undefined ? undefined : { contents, loader: 'js' };
      });
    },
  };
}
