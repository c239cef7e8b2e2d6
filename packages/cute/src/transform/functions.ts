import type * as acorn from 'acorn';
import { writePattern } from './patterns.ts';
import { contains, isFunction, targetsOf, type AnyNode, type FunctionNode } from './syntax.ts';
import { DIRECTIVE } from './directive.ts';
import type { Context, Unit } from './unit.ts';

/** A marked function, or one inside it: its body runs between `enter` and `leave`, which keep its frame. */
export function rewriteFunction(unit: Unit, node: FunctionNode, outer: Context): string {
  if (node.generator)
    unit.refuse(node, 'a generator', 'return an array, or pass a function that is called for each value');
  if (node.async) unit.refuse(node, 'an async function', 'compute the value outside of the kernel and capture it');
  const context: Context = { labels: new Map(), pending: [], renamed: outer.renamed };
  const { text, end } = parameters(unit, node, context);
  const cells = node.params.flatMap(targetsOf).filter((target) => unit.bindings.isCell(target));
  const make = cells
    .map((cell) => ` ${cell.name} = ${unit.call('let', cell.name, JSON.stringify(cell.name), unit.at(cell))};`)
    .join('');
  if (node.body.type !== 'BlockStatement') {
    const between = unit.text(end, node.body.start);
    const written = unit.rewrite(node.body, context) + unit.text(node.body.end, node.end);
    if (make === '') return text + between + written;
    const arrow = between.lastIndexOf('=>') + 2;
    return `${text}${between.slice(0, arrow)} {${make} return ${between.slice(arrow)}${written}; }`;
  }
  return text + unit.text(end, node.body.start) + body(unit, node, node.body, make, context);
}

function body(unit: Unit, node: FunctionNode, block: acorn.BlockStatement, make: string, context: Context): string {
  const frame = `${unit.prefix}f`;
  const name = JSON.stringify('id' in node && node.id ? node.id.name : '');
  let out = `{ const ${frame} = ${unit.call('enter', name, unit.at(node))};${make}`;
  let at = block.start + 1;
  for (const statement of block.body) {
    out += unit.text(at, statement.start);
    const directive = statement.type === 'ExpressionStatement' && statement.directive === DIRECTIVE;
    out += directive ? unit.gap(statement.start, statement.end) : unit.rewrite(statement, context);
    at = statement.end;
  }
  return `${out}${unit.text(at, block.end - 1)} return ${unit.call('leave', frame)}; }`;
}

/** The text up to the end of the parameters. Their default values see parameters as they come, not as cells. */
function parameters(unit: Unit, node: FunctionNode, context: Context): { text: string; end: number } {
  const inside = { ...context, parameters: true };
  let text = '';
  let at = node.start;
  for (const param of node.params) {
    refuseCaptures(unit, param);
    text += unit.text(at, param.start) + writePattern(unit, param, inside, undefined);
    at = param.end;
  }
  return { text, end: at };
}

/** A function in a default value that keeps a parameter would see it before it is a cell, and after. */
function refuseCaptures(unit: Unit, param: AnyNode): void {
  contains(param, (node) => {
    for (const child of Object.values(node) as unknown[]) {
      if (typeof child !== 'object' || child === null || !('type' in child)) continue;
      const inner = child as AnyNode;
      if (!isFunction(inner)) continue;
      const found = findCell(unit, inner.body);
      if (found) {
        unit.refuse(
          inner,
          `a default value that keeps the reassigned parameter '${found.name}'`,
          'copy the parameter to a variable and assign that',
        );
      }
    }
    return false;
  });
}

function findCell(unit: Unit, node: AnyNode): { name: string } | undefined {
  let found: { name: string } | undefined;
  contains(node, (inner) => {
    const binding = inner.type === 'Identifier' ? unit.bindings.of(inner) : undefined;
    if (binding?.reassigned && binding.kind === 'param') found = binding;
    return found !== undefined;
  });
  return found;
}
