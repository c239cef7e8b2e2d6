import { statSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { KernelModule } from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';

/** What a kernel's file may import without an installation of its own. */
const OURS = /^@rose\/(cute|kernels)(\/|$)/;

/**
 * The kernel of a file, or one of Rose's own by its name. A file is TypeScript with `export default defineKernel(...)`;
 * it may lie anywhere. Throws CommandError where there is none.
 */
export async function loadKernel(name: string): Promise<KernelModule> {
  const path = resolve(name);
  const found = statSync(path, { throwIfNoEntry: false });
  if (found && !found.isDirectory()) return fromFile(name, path);
  const { KERNELS } = await import('@rose/kernels');
  const own = KERNELS.find((kernel) => kernel.name === name);
  if (own) return own;
  const known = KERNELS.map((kernel) => kernel.name).join(', ');
  const what = found ? `${name} is a directory` : `there is no file ${name}`;
  throw new CommandError(ExitCode.usage, `${what}, and no kernel has that name. Rose has ${known}.`);
}

/**
 * From now on kernels are transformed as they are imported, and find Rose's packages wherever they lie. To be called
 * before anything imports @rose/kernels.
 */
export async function prepareImports(): Promise<void> {
  await import('@rose/cute/register');
  registerHooks({
    resolve(specifier, context, next) {
      if (!OURS.test(specifier)) return next(specifier, context);
      try {
        return next(specifier, context);
      } catch {
        return { url: import.meta.resolve(specifier), shortCircuit: true };
      }
    },
  });
}

async function fromFile(name: string, path: string): Promise<KernelModule> {
  let exports: Readonly<Record<string, unknown>>;
  try {
    exports = (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    const { message, stack } = error as Error;
    const [, line] =
      (stack ?? '')
        .slice(message.length)
        .split(pathToFileURL(path).href)[1]
        ?.match(/^:(\d+):/) ?? [];
    const where = line === undefined || message.includes(path) ? '' : `\n  at ${path}:${line}`;
    throw new CommandError(ExitCode.usage, `${name} cannot be loaded: ${message}${where}`, { cause: error });
  }
  if (isKernel(exports.default)) return exports.default;
  throw new CommandError(
    ExitCode.usage,
    `${name} has no kernel: end it with \`export default defineKernel({ ... })\` from @rose/kernels.`,
  );
}

function isKernel(value: unknown): value is KernelModule {
  return typeof value === 'object' && value !== null && 'trace' in value && 'cases' in value && 'reference' in value;
}
