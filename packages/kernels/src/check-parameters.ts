import type { KernelIR } from '@rose/cute';
import { SpecError, type KernelArgument, type KernelModule, type Specialisation, type TensorArgument } from './spec.ts';

type Parameter = KernelIR['params'][number];
type TensorParameter = Extract<Parameter, { kind: 'tensor' }>;

/**
 * Compares the parameters of a traced kernel with the arguments of its specification: names, types, shapes. A tensor of
 * another type would be read as bits that mean something else.
 *
 * @throws SpecError that names the parameter and what both sides say.
 */
export function checkParameters(module: KernelModule, s: Specialisation, kernel: KernelIR): void {
  const args = module.args(s.dims, s.options);
  const maps = module.maps(s);
  const fail = (what: string): never => {
    throw new SpecError(`kernel ${module.name}: ${what}`);
  };
  for (const param of kernel.params) {
    const argument = args[param.name] as KernelArgument | undefined;
    if (!argument) fail(missing(param, s));
    else if (argument.kind === 'scalar') {
      if (param.kind !== 'value') fail(`parameter ${param.name} is a ${kindOf(param)}, and args gives it a scalar`);
      else if (param.type !== argument.type) fail(typesDiffer(param.name, param.type, argument.type));
    } else if (param.kind === 'value') {
      fail(`parameter ${param.name} is a number (${param.type}), and args gives it a tensor`);
    } else if (param.kind === 'tensormap') {
      if (!(param.name in maps)) fail(`parameter ${param.name} is a tensor map: maps gives none for ${param.name}`);
    } else if (param.name in maps) {
      fail(`parameter ${param.name} is a tensor, and maps gives it a tensor map: declare it with tensorMapOf(...)`);
    } else checkTensor(param, argument, fail);
  }
  const known = new Set(kernel.params.map(({ name }) => name));
  for (const [name, argument] of Object.entries(args)) {
    if (argument && !known.has(name)) fail(`args gives ${name}, and params has ${[...known].join(', ') || 'none'}`);
  }
}

function kindOf({ kind }: Parameter): string {
  return kind === 'tensormap' ? 'tensor map' : kind;
}

function missing(param: Parameter, { dims }: Specialisation): string {
  if (param.kind !== 'value' || !param.extent) return `parameter ${param.name} is missing in args`;
  return (
    `the size ${param.name} of a tensor in params has no value: dims gives ${Object.keys(dims).join(', ') || 'none'}; ` +
    `name one of them, or pass it at the launch, in args: ${param.name}: scalar('i32', ...)`
  );
}

function typesDiffer(name: string, declared: string, given: string): string {
  return `${name} is ${declared} in params and ${given} in args: they must be the same`;
}

function checkTensor(
  { name, element, declared }: TensorParameter,
  { type, shape }: TensorArgument,
  fail: (what: string) => never,
): void {
  if (element !== type) fail(typesDiffer(name, element, type));
  if (!declared) return;
  const { compact, elements, extents } = declared;
  // A kernel may round the first extent up, which only says how far a row-major tensor goes: accesses are checked anyway.
  const differs =
    extents.length !== shape.length ||
    extents.some((size, i) => size !== undefined && (i === 0 ? size < shape[i] : size !== shape[i]));
  if (compact && differs) {
    const text = extents.map((size) => size ?? '?').join(', ');
    fail(`${name} is ${element} [${text}] in params and ${type} [${shape.join(', ')}] in args: they must be the same`);
  }
  const count = shape.reduce((product, size) => product * size, 1);
  if (!compact && elements !== undefined && elements > count) {
    fail(`${name} reaches over ${elements} elements with its strides, and args gives it ${count}`);
  }
}
