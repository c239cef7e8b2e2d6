import type * as acorn from 'acorn';
import { assignPattern } from './patterns.ts';
import { assign, identifier, index } from './assign.ts';
import type { AnyNode } from './syntax.ts';
import type { Context, Unit } from './unit.ts';

const BINARY: Readonly<Record<string, string>> = {
  '+': 'add',
  '-': 'sub',
  '*': 'mul',
  '/': 'div',
  '%': 'rem',
  '**': 'pow',
  '&': 'band',
  '|': 'bor',
  '^': 'bxor',
  '<<': 'shl',
  '>>': 'shr',
  '>>>': 'shru',
  '==': 'eq',
  '===': 'eq',
  '!=': 'ne',
  '!==': 'ne',
  '<': 'lt',
  '<=': 'le',
  '>': 'gt',
  '>=': 'ge',
};

const UNARY: Readonly<Record<string, string>> = { '-': 'neg', '+': 'plus', '!': 'not', '~': 'bnot' };

/** Array methods whose result is an array that nobody else has. */
const FRESH = new Set(['from', 'of', 'map', 'filter', 'slice', 'concat', 'flatMap', 'flat', 'toSorted', 'toReversed']);

/** Methods that change the array, map or set they are called on. */
const CHANGING = new Set([
  'push',
  'pop',
  'shift',
  'unshift',
  'splice',
  'sort',
  'reverse',
  'fill',
  'set',
  'add',
  'clear',
]);

/** An expression inside a marked function, or undefined for what stays as it is. */
export function expression(unit: Unit, node: AnyNode, context: Context): string | undefined {
  const inside = (child: AnyNode): string => unit.rewrite(child, context);
  const at = unit.at(node);
  switch (node.type) {
    case 'Identifier':
      return identifier(unit, node, context);
    case 'PrivateIdentifier':
      return unit.text(node.start, node.end);
    case 'SequenceExpression':
      return `(${unit.copy(node, context)})`;
    case 'BinaryExpression': {
      const method = BINARY[node.operator];
      if (!method) return undefined;
      const gap = unit.gap(node.left.end, node.right.start);
      return unit.call(method, inside(node.left), gap + inside(node.right), at);
    }
    case 'LogicalExpression': {
      if (node.operator === '??') return `(${unit.copy(node, context)})`;
      const gap = unit.gap(node.left.end, node.right.start);
      return unit.call(
        node.operator === '&&' ? 'and' : 'or',
        inside(node.left),
        `${gap}() => (${inside(node.right)})`,
        at,
      );
    }
    case 'UnaryExpression': {
      if (node.operator === 'delete') unit.refuse(node, 'delete', 'build the object without the property instead');
      const method = UNARY[node.operator];
      return method
        ? unit.call(method, unit.gap(node.start, node.argument.start) + inside(node.argument), at)
        : undefined;
    }
    case 'ConditionalExpression':
      return unit.call(
        'sel',
        inside(node.test),
        `${unit.gap(node.test.end, node.consequent.start)}() => (${inside(node.consequent)})`,
        `${unit.gap(node.consequent.end, node.alternate.start)}() => (${inside(node.alternate)})`,
        at,
      );
    case 'AssignmentExpression':
      return assignment(unit, node, context);
    case 'UpdateExpression':
      return update(unit, node, context);
    case 'MemberExpression':
      return member(unit, node, context);
    case 'ChainExpression':
      return chain(unit, node, context);
    case 'CallExpression':
      return call(unit, node, context);
    case 'NewExpression': {
      const list = argumentsOf(unit, node, node.callee.end, context);
      return unit.call('made', `new (${inside(node.callee)})${list}`);
    }
    case 'ArrayExpression':
    case 'ObjectExpression':
      return unit.call('made', unit.copy(node, context));
    case 'Property':
      return property(unit, node, context);
    case 'TemplateLiteral':
      return template(unit, node, context);
    case 'TaggedTemplateExpression':
      return inside(node.tag) + unit.gap(node.tag.end, node.quasi.start) + unit.copy(node.quasi, context);
    case 'MethodDefinition':
    case 'PropertyDefinition': {
      const key = node.computed ? copyKey(unit, node, context) : unit.text(node.start, node.key.end);
      if (!node.value) return key + unit.text(node.key.end, node.end);
      return key + unit.text(node.key.end, node.value.start) + inside(node.value) + unit.text(node.value.end, node.end);
    }
    case 'AwaitExpression':
      return unit.refuse(node, 'await', 'compute the value outside of the kernel and capture it');
    case 'YieldExpression':
      return unit.refuse(node, 'yield', 'return an array, or pass a function that is called for each value');
    default:
      return undefined;
  }
}

function copyKey(
  unit: Unit,
  node: acorn.MethodDefinition | acorn.PropertyDefinition | acorn.Property | acorn.AssignmentProperty,
  context: Context,
) {
  return unit.text(node.start, node.key.start) + unit.rewrite(node.key, context);
}

/** `a.b`, `a[i]`; the callee of a call is not read through here. */
function member(unit: Unit, node: acorn.MemberExpression, context: Context): string {
  if (node.computed && node.object.type !== 'Super') {
    const gap = unit.gap(node.object.end, node.property.start);
    return unit.call(
      'get',
      unit.rewrite(node.object, context),
      gap + index(unit, node, context) + unit.gap(node.property.end, node.end),
      unit.at(node),
    );
  }
  const object = unit.text(node.start, node.object.start) + unit.rewrite(node.object, context);
  if (!node.computed) return object + unit.text(node.object.end, node.end);
  return (
    object +
    unit.text(node.object.end, node.property.start) +
    index(unit, node, context) +
    unit.text(node.property.end, node.end)
  );
}

/** Optional chains stay what they are, unless an element is read by an index that only the runtime can read. */
function chain(unit: Unit, node: acorn.ChainExpression, context: Context): string {
  const links: (acorn.MemberExpression | acorn.CallExpression)[] = [];
  for (let link: AnyNode = node.expression; ; link = link.type === 'CallExpression' ? link.callee : link.object) {
    if (link.type !== 'MemberExpression' && link.type !== 'CallExpression') break;
    links.push(link);
  }
  if (!links.some((link) => link.type === 'MemberExpression' && link.computed))
    return unit.rewrite(node.expression, context);
  const first = links.findLast((link) => link.optional);
  if (!first || links.some((link) => link.optional && link !== first) || first.type === 'CallExpression') {
    unit.refuse(node, 'an optional chain of several parts with an index', 'keep each part in a variable of its own');
  }
  const whole = unit.name();
  const base = first.object;
  // The rest of the chain is written with a name in the place of what may be missing.
  const rest = new ChainWriter(unit, base, whole);
  return unit.call('opt', unit.rewrite(base, context), `(${whole}) => ${rest.write(node.expression, context)}`);
}

/** Writes the links of a chain above its optional part. */
class ChainWriter {
  private readonly unit: Unit;
  private readonly base: AnyNode;
  private readonly name: string;

  constructor(unit: Unit, base: AnyNode, name: string) {
    this.unit = unit;
    this.base = base;
    this.name = name;
  }

  write(node: AnyNode, context: Context): string {
    const { unit } = this;
    if (node === this.base) return this.name;
    if (node.type === 'MemberExpression') {
      const object = this.write(node.object, context);
      if (node.computed) {
        const gap = unit.gap(node.object.end, node.property.start);
        return unit.call('get', object, gap + index(unit, node, context), unit.at(node));
      }
      return `${object}${unit.gap(node.object.end, node.property.start)}.${unit.text(node.property.start, node.end)}`;
    }
    if (node.type === 'CallExpression') {
      const list = argumentsOf(unit, node, node.callee.end, context);
      if (node.callee.type === 'MemberExpression' && node.callee.computed && node.callee !== this.base) {
        const { object } = node.callee;
        return `${unit.call('method', this.write(object, context), index(unit, node.callee, context))}${list}`;
      }
      return this.write(node.callee, context) + list;
    }
    return unit.refuse(node, 'this optional chain', 'keep each part in a variable of its own');
  }
}

function call(unit: Unit, node: acorn.CallExpression, context: Context): string {
  const { callee } = node;
  const list = argumentsOf(unit, node, callee.end, context);
  if (callee.type === 'MemberExpression' && callee.computed && callee.object.type !== 'Super' && !node.optional) {
    const gap = unit.gap(callee.object.end, callee.property.start);
    const [object, key] = [unit.rewrite(callee.object, context), index(unit, callee, context)];
    return unit.call('method', object, gap + key, unit.at(callee)) + list;
  }
  const name = callee.type === 'MemberExpression' && callee.property.type === 'Identifier' ? callee.property.name : '';
  if (CHANGING.has(name) && callee.type === 'MemberExpression' && callee.object.type !== 'Super' && !node.optional) {
    const object = unit.rewrite(callee.object, context);
    return `${unit.call('changed', object, JSON.stringify(name), unit.at(callee.property))}${unit.text(callee.object.end, callee.end)}${list}`;
  }
  const written = unit.text(node.start, callee.start) + unit.rewrite(callee, context) + list;
  return FRESH.has(name) ? unit.call('made', written) : written;
}

/** Arguments of a call; the last one tells the runtime where the call is, after the others were computed. */
function argumentsOf(
  unit: Unit,
  node: acorn.CallExpression | acorn.NewExpression,
  from: number,
  context: Context,
): string {
  const where = node.type === 'CallExpression' && node.callee.type === 'MemberExpression' ? node.callee.property : node;
  let out = '';
  let at = from;
  if (node.arguments.length === 0) {
    const parentheses = unit.text(from, node.end).includes('(') ? unit.text(from, node.end) : '()';
    return parentheses.replace(/\)[^)]*$/, `...${unit.call('at', unit.at(where))})`);
  }
  for (const [index, argument] of node.arguments.entries()) {
    const written = unit.rewrite(argument, context);
    const last = index === node.arguments.length - 1;
    if (!last) out += unit.text(at, argument.start) + written;
    else if (argument.type === 'SpreadElement')
      out += `${unit.text(at, argument.start)}${written}, ...${unit.call('at', unit.at(where))}`;
    else out += unit.text(at, argument.start) + unit.call('p', written, unit.at(where));
    at = argument.end;
  }
  return out + unit.text(at, node.end);
}

function assignment(unit: Unit, node: acorn.AssignmentExpression, context: Context): string {
  const { left, operator } = node;
  const at = unit.at(node);
  const gap = unit.gap(left.end, node.right.start);
  const right = gap + unit.rewrite(node.right, context);
  if (left.type === 'ObjectPattern' || left.type === 'ArrayPattern') return assignPattern(unit, left, right, context);
  const combine = (old: string): string => {
    if (operator === '=') return right;
    if (operator === '??=') return `${old} ?? (${right})`;
    if (operator === '&&=' || operator === '||=') {
      return unit.call(operator === '&&=' ? 'and' : 'or', old, `() => (${right})`, at);
    }
    return unit.call(BINARY[operator.slice(0, -1)], old, right, at);
  };
  return assign(unit, left, operator === '=' ? undefined : combine, combine('undefined'), at, context);
}

function update(unit: Unit, node: acorn.UpdateExpression, context: Context): string {
  const at = unit.at(node);
  const step = (old: string): string => unit.call(node.operator === '++' ? 'add' : 'sub', old, 1, at);
  const { argument } = node;
  if (!node.prefix && argument.type === 'Identifier' && unit.bindings.isCell(argument)) {
    return unit.call('post', argument.name, `(${unit.prefix}o) => ${step(`${unit.prefix}o`)}`, at);
  }
  const written = unit.gap(node.start, argument.start) + assign(unit, argument, step, '', at, context);
  // The old value of a number that counts up: the new one less one step.
  return node.prefix ? written : unit.call(node.operator === '++' ? 'sub' : 'add', `(${written})`, 1, at);
}

function property(unit: Unit, node: acorn.Property | acorn.AssignmentProperty, context: Context): string {
  if (node.shorthand) {
    const written = unit.rewrite(node.value, context);
    const key = unit.text(node.key.start, node.key.end);
    return written === key ? key : `${key}: ${written}`;
  }
  const key = node.computed ? copyKey(unit, node, context) : unit.text(node.start, node.key.end);
  return (
    key +
    unit.text(node.key.end, node.value.start) +
    unit.rewrite(node.value, context) +
    unit.text(node.value.end, node.end)
  );
}

function template(unit: Unit, node: acorn.TemplateLiteral, context: Context): string {
  let out = '';
  let at = node.start;
  for (const part of node.expressions) {
    out += unit.text(at, part.start) + unit.call('text', unit.rewrite(part, context));
    at = part.end;
  }
  return out + unit.text(at, node.end);
}
