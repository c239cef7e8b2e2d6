import type * as acorn from 'acorn';
import { contains, type AnyNode } from './syntax.ts';
import type { Context, Unit } from './unit.ts';

/** What stands between the brackets of `a[i]`. JavaScript would take `a[i, j]` for `a[j]`, which nobody means. */
export function index(unit: Unit, { property }: acorn.MemberExpression, context: Context): string {
  if (property.type === 'SequenceExpression') {
    unit.refuse(property, 'a comma inside of [ ]', 'write x(i, _)[j] for the element in row i and column j');
  }
  return unit.rewrite(property, context);
}

/** What a variable is called where it is read. */
export function identifier(unit: Unit, node: acorn.Identifier, context: Context): string {
  const binding = unit.bindings.of(node);
  const other = binding && context.renamed.get(binding);
  if (other !== undefined) return other;
  if (!binding?.reassigned) return node.name;
  if (context.parameters && binding.kind === 'param') return node.name;
  return `${node.name}.v`;
}

/** Gives a value to a variable, member or element: `value`, or what `combine` makes of the old one. */
export function assign(
  unit: Unit,
  left: AnyNode,
  combine: ((old: string) => string) | undefined,
  value: string,
  at: number,
  context: Context,
): string {
  if (left.type === 'Identifier') {
    const { name } = left;
    const binding = unit.bindings.of(left);
    const read = identifier(unit, left, context);
    if (binding?.reassigned && !context.parameters) return unit.call('set', name, combine ? combine(read) : value, at);
    if (binding) return `${read} = ${combine ? combine(read) : value}`;
    return `${name} = ${unit.call('outer', JSON.stringify(name), combine ? combine(name) : value, at)}`;
  }
  if (left.type !== 'MemberExpression') return unit.refuse(left, 'this assignment', 'assign to a variable or a member');
  if (left.object.type === 'Super') return unit.refuse(left, 'assignment to super', 'assign to this');
  if (left.property.type === 'PrivateIdentifier') {
    if (left.object.type !== 'ThisExpression') {
      unit.refuse(left, `assignment to #${left.property.name} of another object`, 'write a method that assigns it');
    }
    const field = `this.#${left.property.name}`;
    return `${field} = ${unit.call('field', 'this', JSON.stringify(`#${left.property.name}`), combine ? combine(field) : value, at)}`;
  }
  const object = unit.rewrite(left.object, context);
  const gap = unit.gap(left.object.end, left.property.start);
  const key =
    gap +
    (left.computed ? index(unit, left, context) : JSON.stringify(unit.text(left.property.start, left.property.end))) +
    unit.gap(left.property.end, left.end);
  if (!combine) return unit.call('put', object, key, value, at);
  const old = unit.name();
  return unit.call('upd', object, key, `(${old}) => ${combine(old)}`, at);
}

/** Whether an expression changes variables of JavaScript by itself. */
export function assigns(node: AnyNode): boolean {
  return contains(node, ({ type }) => type === 'AssignmentExpression' || type === 'UpdateExpression');
}
