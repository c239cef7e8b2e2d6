import type { TypeName } from '../types/dtype.ts';
import { MULTIMEM_LOADS, MULTIMEM_REDUCTIONS, MULTIMEM_TYPES, REDUCE_ASYNC } from './cluster-forms.ts';
import { form, times, type InstructionForm } from './form.ts';

/** Clusters, dependent grids, register budgets, multimem, launch control. */

function multimem(): InstructionForm[] {
  const out: InstructionForm[] = [];
  for (const [type, counts] of Object.entries(MULTIMEM_TYPES)) {
    for (const count of counts) {
      const values = times(count, type as TypeName);
      for (const attributes of [{}, { order: 'relaxed', scope: 'sys' }, { order: 'release', scope: 'gpu' }]) {
        out.push(form('multimem_store', { type, ...attributes }, ['ptr.global', ...values]));
      }
      for (const [name, types] of Object.entries(MULTIMEM_REDUCTIONS)) {
        if (types.includes(type))
          out.push(form('multimem_reduce', { function: name, type }, ['ptr.global', ...values]));
      }
      for (const [name, types] of Object.entries(MULTIMEM_LOADS)) {
        if (!types.includes(type)) continue;
        const attributes = { function: name, type };
        out.push(form('multimem_load_reduce', attributes, ['ptr.global'], values));
        out.push(
          form('multimem_load_reduce', { ...attributes, order: 'acquire', scope: 'sys' }, ['ptr.global'], values),
        );
      }
    }
  }
  return out;
}

export const CLUSTER_FORMS: readonly InstructionForm[] = [
  form('cluster_arrive', { order: 'release' }),
  form('cluster_arrive', { order: 'relaxed' }),
  form('cluster_wait'),
  form('map_shared', {}, ['ptr.shared', 'i32'], ['ptr.cluster']),
  ...(['f32', 'u32', 'b32', 'bf16x2', 'u64', 'b64'] as const).flatMap((type) =>
    (type.endsWith('64') ? [1, 2] : [1, 2, 4]).map((count) =>
      form('store_async', {}, ['ptr.cluster', ...times(count, type), 'ptr.cluster']),
    ),
  ),
  ...Object.entries(REDUCE_ASYNC).flatMap(([name, types]) =>
    types.map((type) => form('reduce_async', { function: name }, ['ptr.cluster', type, 'ptr.cluster'])),
  ),
  form('set_max_registers', { count: 24, direction: 'dec' }),
  form('set_max_registers', { count: 240, direction: 'inc' }),
  form('grid_dependency_wait'),
  form('grid_launch_dependents'),
  ...multimem(),
  form('cluster_launch_try_cancel', {}, ['ptr.shared', 'ptr.shared']),
  form('cluster_launch_try_cancel', { multicast: true }, ['ptr.shared', 'ptr.shared']),
  form('cluster_launch_query', {}, ['b128'], ['pred', 'i32', 'i32', 'i32']),
];
