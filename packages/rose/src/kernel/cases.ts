import {
  usual,
  type Choice,
  type KernelCase,
  type KernelModule,
  type KnownTunings,
  type Space,
  type Specialisation,
  specialise,
} from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';

/** What the command line says of the sizes and choices: `rows=4`, `type=f16`, `lanes=64`. */
export interface CaseOptions {
  readonly set?: readonly string[];
}

/**
 * The cases that are asked for: those of the file that `wanted` keeps, or one where the command line gives all sizes.
 * What the command line says replaces what the cases say; `tunings` are asked for what neither says.
 */
export function casesOf(
  module: KernelModule,
  options: CaseOptions,
  wanted: (one: KernelCase) => boolean,
  tunings?: KnownTunings,
): Specialisation[] {
  const { dims, choices } = parse(module, options.set ?? []);
  const names = Object.keys(module.dims);
  const whole = names.every((name) => name in dims);
  const base: readonly KernelCase[] = whole ? [{ dims: {} }] : module.cases.filter(wanted);
  if (base.length === 0) {
    throw new CommandError(
      ExitCode.usage,
      `${module.name} has no case for this: give all sizes, --set ${names.map((name) => `${name}=...`).join(',')}.`,
    );
  }
  return base.map((one) => {
    try {
      const whole = {
        dims: { ...one.dims, ...dims },
        options: { ...one.options, ...choices.options },
        tuning: { ...one.tuning, ...choices.tuning },
      };
      return specialise(module, whole, tunings);
    } catch (error) {
      if (error instanceof RangeError) throw new CommandError(ExitCode.usage, `${error.message}.`, { cause: error });
      throw error;
    }
  });
}

interface Parsed {
  readonly dims: Record<string, number>;
  readonly choices: { readonly options: Record<string, Choice>; readonly tuning: Record<string, Choice> };
}

function parse(module: KernelModule, assignments: readonly string[]): Parsed {
  const parsed: Parsed = { dims: {}, choices: { options: {}, tuning: {} } };
  for (const text of assignments) {
    const [name, value, ...rest] = text.split('=');
    if (!name || value === undefined || rest.length > 0) {
      throw new CommandError(ExitCode.usage, `--set ${text}: write name=value, several with commas.`);
    }
    if (name in module.dims || name in module.optionalDims) parsed.dims[name] = size(name, value);
    else if (name in module.options) parsed.choices.options[name] = choice(module.options, name, value);
    else if (name in module.tuning) parsed.choices.tuning[name] = choice(module.tuning, name, value);
    else throw new CommandError(ExitCode.usage, `${module.name} has no ${name}. ${describeChoices(module)}`);
  }
  return parsed;
}

function size(name: string, text: string): number {
  if (/^-?\d+$/.test(text)) return Number(text);
  throw new CommandError(ExitCode.usage, `size ${name} is ${JSON.stringify(text)}; it must be a whole number from 1.`);
}

function choice(space: Space, name: string, text: string): Choice {
  const found = space[name].find((value) => String(value) === text);
  if (found !== undefined) return found;
  throw new CommandError(ExitCode.usage, `${name}=${text}: it can be ${space[name].join(', ')}.`);
}

/** What can be set, as sentences. */
export function describeChoices(module: KernelModule): string {
  const space = (title: string, choices: Space): string =>
    Object.keys(choices).length === 0
      ? ''
      : ` ${title}: ${Object.entries(choices)
          .map(([name, values]) => `${name} (${values.join(', ')})`)
          .join('; ')}.`;
  const optional = Object.keys(module.optionalDims).map((name) => `, perhaps ${name}`);
  return `Sizes: ${Object.keys(module.dims).join(', ')}${optional.join('')}.${space('Options', module.options)}${space('Tuning', module.tuning)}`;
}

/** A specialisation in one line; what is as usual is left out. */
export function describeCase(module: KernelModule, s: Specialisation): string {
  const plain = usual(module.options);
  const options = Object.entries(s.options).filter(([name, value]) => value !== plain[name]);
  return [...Object.entries(s.dims), ...options, ...Object.entries(s.tuning)]
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
}
