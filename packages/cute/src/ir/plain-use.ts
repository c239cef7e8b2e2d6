import { fileName } from './file-name.ts';

/** Functions of `Math` that the kernel language has under the same name. */
const OURS = new Set(['abs', 'cos', 'exp', 'log', 'max', 'min', 'sin', 'sqrt', 'tanh']);

/** Who asked a device value for its number, and what to write instead; `stack` of an error made in there. */
export function plainUse(type: string, stack: string): string {
  const what = `a device value (${type}) is used as a plain JavaScript value`;
  const math = /^\s+at Math\.(\w+) /m.exec(stack)?.[1];
  if (math !== undefined) {
    const instead = OURS.has(math) ? `use ${math}(...) of @rose/cute` : 'write it with functions of @rose/cute';
    return `${what}: Math.${math} computes with JavaScript's numbers; ${instead}`;
  }
  const [, name, url, line] = /^\s+at (?:Object\.)?([\w$]+) \((file:.+?):(\d+):\d+\)$/m.exec(stack) ?? [];
  const who = name === undefined ? 'the function that does so' : `the function ${name} (${fileName(url)}:${line})`;
  return `${what}: ${who} lacks 'use gpu', or was not transformed`;
}
