import { special } from '../src/atoms/record.ts';
import type { KernelIR, KernelParameter, Value } from '../src/ir/ir.ts';
import { setTrace, Trace } from '../src/trace/state.ts';
import type { TypeName } from '../src/types/dtype.ts';

/** The IR of a body that takes addresses and maps instead of tensors. */
export function recordKernel(
  name: string,
  parts: Pick<KernelIR, 'threads'> & { readonly cluster?: KernelIR['cluster']; readonly params: KernelParameter[] },
  body: (...params: Value[]) => void,
): KernelIR {
  const kernel: KernelIR = {
    ...{ name, params: parts.params, shared: [], body: [], threads: parts.threads, values: 0, slotCount: 0 },
    ...(parts.cluster ? { cluster: parts.cluster } : {}),
  };
  const trace = new Trace(kernel, { file: `${name}.ts`, line: 1, column: 1 });
  const before = setTrace(trace);
  try {
    const params = parts.params.map((param, index) =>
      trace.builder.value('param', typeOf(param), { attributes: { index } }),
    );
    body(...params);
  } finally {
    setTrace(before);
  }
  return kernel;
}

function typeOf(param: KernelParameter): TypeName {
  if (param.kind === 'value') return param.type;
  return param.kind === 'tensor' ? 'ptr.global' : 'ptr.generic';
}

export function tensor(
  name: string,
  element: TypeName,
  access: 'read' | 'write' | 'readwrite' = 'read',
): KernelParameter {
  return { kind: 'tensor', name, element, align: 16, access };
}

export const thread = (): number => special('tid.x');
export const block = (): number => special('ctaid.x');
