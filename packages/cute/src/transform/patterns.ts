import type * as acorn from 'acorn';
import type { Binding } from './bindings.ts';
import { assign } from './assign.ts';
import { targetsOf, type AnyNode } from './syntax.ts';
import type { Context, Unit } from './unit.ts';

/** Declarators of a `let` or `const`; variables that are assigned later become cells. */
export function declarators(unit: Unit, node: acorn.VariableDeclaration, context: Context): string {
  if (node.kind !== 'let' && node.kind !== 'const') {
    unit.refuse(
      node,
      `'${node.kind}'`,
      node.kind === 'var' ? "use 'let' or 'const'" : 'release resources outside of the kernel',
    );
  }
  let out = '';
  for (const [index, declarator] of node.declarations.entries()) {
    if (index > 0) out += `,${unit.gap(node.declarations[index - 1].end, declarator.start)} `;
    out += declare(unit, declarator, context);
  }
  return out;
}

function declare(unit: Unit, node: acorn.VariableDeclarator, context: Context): string {
  const { id, init } = node;
  const gap = init ? unit.gap(id.end, init.start) : '';
  const value = init ? gap + located(unit, init, context) : 'undefined';
  if (id.type === 'Identifier') {
    if (!unit.bindings.isCell(id)) return init ? `${id.name} = ${value}` : id.name;
    return `${id.name} = ${unit.call('let', value, JSON.stringify(id.name), unit.at(node))}`;
  }
  const { pattern, cells } = renamePattern(unit, id, context);
  return [`${pattern} = ${value}`, ...cells].join(', ');
}

/** A value whose reading may take a device register through a getter is attributed to its own line. */
function located(unit: Unit, init: acorn.Expression, context: Context): string {
  const written = unit.rewrite(init, context);
  return init.type === 'MemberExpression' && !init.computed
    ? `(${unit.call('at', unit.at(init))}, ${written})`
    : written;
}

/** A pattern whose reassigned variables have other names, and the declarators that make cells of those. */
export function renamePattern(unit: Unit, id: AnyNode, context: Context): { pattern: string; cells: string[] } {
  const renamed = new Map(context.renamed);
  const cells: string[] = [];
  for (const target of targetsOf(id)) {
    const binding: Binding | undefined = unit.bindings.of(target);
    if (!binding?.reassigned) continue;
    const name = unit.name();
    renamed.set(binding, name);
    cells.push(`${target.name} = ${unit.call('let', name, JSON.stringify(target.name), unit.at(target))}`);
  }
  return { pattern: writePattern(unit, id, { ...context, renamed }, undefined), cells };
}

/** `[a, o.x] = value` where a target may be a cell, a member or an element. The value of the whole is the right side. */
export function assignPattern(unit: Unit, left: AnyNode, value: string, context: Context): string {
  const whole = unit.name();
  const sets: string[] = [];
  const pattern = writePattern(unit, left, context, (target) => {
    const part = unit.name();
    sets.push(`${assign(unit, target, undefined, part, unit.at(target), context)};`);
    return part;
  });
  return `((${whole}) => { const ${pattern} = ${whole}; ${sets.join(' ')} return ${whole}; })(${value})`;
}

/** A pattern with its default values and computed keys rewritten; `place` names what a target is called in it. */
export function writePattern(
  unit: Unit,
  node: AnyNode,
  context: Context,
  place: ((target: AnyNode) => string) | undefined,
): string {
  const inside = (child: AnyNode): string => writePattern(unit, child, context, place);
  switch (node.type) {
    case 'ObjectPattern':
    case 'ArrayPattern': {
      let out = '';
      let at = node.start;
      for (const child of node.type === 'ObjectPattern' ? node.properties : node.elements) {
        if (!child) continue;
        out +=
          unit.text(at, child.start) +
          (child.type === 'Property' ? property(unit, child, context, inside) : inside(child));
        at = child.end;
      }
      return out + unit.text(at, node.end);
    }
    case 'AssignmentPattern':
      return inside(node.left) + unit.text(node.left.end, node.right.start) + unit.rewrite(node.right, context);
    case 'RestElement':
      return unit.text(node.start, node.argument.start) + inside(node.argument);
    case 'Identifier': {
      if (place) return place(node);
      const binding = unit.bindings.of(node);
      return (binding && context.renamed.get(binding)) ?? node.name;
    }
    default:
      return place ? place(node) : unit.rewrite(node, context);
  }
}

function property(
  unit: Unit,
  node: acorn.AssignmentProperty | acorn.Property,
  context: Context,
  inside: (child: AnyNode) => string,
): string {
  const written = inside(node.value);
  if (node.shorthand) {
    const key = unit.text(node.key.start, node.key.end);
    return written === key || written.startsWith(`${key} =`) ? written : `${key}: ${written}`;
  }
  const key = node.computed
    ? unit.text(node.start, node.key.start) + unit.rewrite(node.key, context)
    : unit.text(node.start, node.key.end);
  return key + unit.text(node.key.end, node.value.start) + written;
}
