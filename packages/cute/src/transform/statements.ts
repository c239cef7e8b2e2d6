import type * as acorn from 'acorn';
import { assigns } from './assign.ts';
import { assignPattern, declarators, renamePattern } from './patterns.ts';
import { jumps, targetsOf, type AnyNode } from './syntax.ts';
import { DIRECTIVE } from './directive.ts';
import type { Context, Target, Unit } from './unit.ts';

/** A statement inside a marked function, or undefined for what is no statement or stays as it is. */
export function statement(unit: Unit, node: AnyNode, context: Context): string | undefined {
  switch (node.type) {
    case 'ExpressionStatement':
      if (node.directive === undefined && node.expression.type === 'Literal' && node.expression.value === DIRECTIVE) {
        unit.refuse(node, `'${DIRECTIVE}' after other statements`, 'put it first in the body of its function');
      }
      return (
        `${unit.call('at', unit.at(node))}; ${unit.rewrite(node.expression, context)}` +
        `${unit.gap(node.expression.end, node.end)};`
      );
    case 'VariableDeclaration':
      return `${node.kind} ${declarators(unit, node, context)}${unit.gap(node.declarations.at(-1)?.end ?? 0, node.end)};`;
    case 'IfStatement':
      return ifStatement(unit, node, context);
    case 'ForStatement':
      return forStatement(unit, node, context);
    case 'ForOfStatement':
    case 'ForInStatement':
      return forEach(unit, node, context);
    case 'WhileStatement': {
      const [target, inside] = enterLoop(unit, context);
      const test = `${unit.gap(node.start, node.test.start)}${condition(unit, node.test, context)}`;
      const gap = unit.gap(node.test.end, node.body.start);
      return (
        `${target.label}: for (const ${target.state} = ${unit.call('loop', unit.at(node))}; ${unit.call('more', target.state, test)}; ` +
        `${unit.call('step', target.state)})${gap} ${block(unit, node.body, inside)}${skip(unit, node.body, context)}`
      );
    }
    case 'DoWhileStatement':
      return doStatement(unit, node, context);
    case 'SwitchStatement':
      return switchStatement(unit, node, context);
    case 'LabeledStatement':
      return labelled(unit, node, context);
    case 'BreakStatement':
    case 'ContinueStatement':
      return jump(unit, node, context);
    case 'ReturnStatement': {
      const frame = `${unit.prefix}f`;
      const gap = node.argument ? unit.gap(node.start, node.argument.start) : '';
      const value = node.argument ? gap + unit.rewrite(node.argument, context) : 'undefined';
      const end = node.argument ? unit.gap(node.argument.end, node.end) : '';
      const at = unit.at(node);
      if (!context.inner) return `return ${unit.call('leave', frame, value, at)};${end}`;
      const result = `${unit.prefix}r`;
      return (
        `{ const ${result} = ${value}; if (${unit.call('ret', frame, result, at)}) ` +
        `return ${unit.call('leave', frame, result, at)}; else continue ${context.inner}; }${end}`
      );
    }
    case 'ThrowStatement': {
      const gap = unit.gap(node.start, node.argument.start);
      return `throw ${unit.call('thrown', gap + unit.rewrite(node.argument, context), unit.at(node))};${unit.gap(node.argument.end, node.end)}`;
    }
    case 'TryStatement':
      return unit.refuse(
        node,
        'try',
        'a kernel cannot catch errors: check with if or assert() before, or catch outside of the kernel',
      );
    case 'WithStatement':
      return unit.refuse(node, 'with', 'name the object');
    default:
      return undefined;
  }
}

/** The body of a statement, always in braces. */
function block(unit: Unit, node: acorn.Statement, context: Context, before = ''): string {
  const written = unit.rewrite(node, context);
  if (node.type === 'BlockStatement') return before === '' ? written : `{ ${before}${written.slice(1)}`;
  return `{ ${before}${written} }`;
}

/** A condition as a function without arguments; none, or `true`, is a loop of the device. */
function condition(unit: Unit, test: acorn.Expression | null | undefined, context: Context): string {
  if (!test || (test.type === 'Literal' && test.value === true)) return 'null';
  return `() => (${unit.rewrite(test, context)})`;
}

/** After a statement out of which control may jump: what follows is not traced where nobody gets to it. */
function skip(unit: Unit, body: AnyNode, context: Context): string {
  if (!context.inner || !jumps(body)) return '';
  return ` if (${unit.prefix}.dead) continue ${context.inner};`;
}

function enter(unit: Unit, context: Context, kind: Target['kind']): [Target, Context] {
  const state = unit.name();
  const target: Target = { label: `${state}l`, state, kind };
  const labels = new Map(context.labels);
  for (const label of context.pending) labels.set(label, target);
  return [target, { ...context, inner: target.label, labels, pending: [] }];
}

function enterLoop(unit: Unit, context: Context): [Target, Context] {
  const [target, inside] = enter(unit, context, 'loop');
  return [target, { ...inside, loop: target, breakable: target }];
}

function ifStatement(unit: Unit, node: acorn.IfStatement, context: Context): string {
  const state = unit.name();
  const inside = { ...context, inner: `${state}l`, pending: [] };
  const test = unit.gap(node.start, node.test.start) + unit.rewrite(node.test, context);
  const then = unit.gap(node.test.end, node.consequent.start) + block(unit, node.consequent, inside);
  const otherwise = node.alternate
    ? `${unit.gap(node.consequent.end, node.alternate.start)} else ${block(unit, node.alternate, inside)}`
    : '';
  return (
    `${state}l: for (const ${state} = ${unit.call('if', test, String(node.alternate !== null), unit.at(node))}; ` +
    `${unit.call('arm', state)};) if (${state}.yes) ${then}${otherwise}${skip(unit, node, context)}`
  );
}

function forStatement(unit: Unit, node: acorn.ForStatement, context: Context): string {
  const [target, inside] = enterLoop(unit, context);
  const { init, test, update, body } = node;
  const counters =
    init?.type === 'VariableDeclaration'
      ? init.declarations.flatMap(({ id }) => targetsOf(id)).filter((id) => unit.bindings.isCell(id))
      : [];
  // Where functions keep a counter, each round has a cell of its own, as JavaScript has it.
  const forks = counters
    .filter((id) => unit.bindings.of(id)?.captured)
    .map((id) => `${id.name} = ${unit.call('fork', target.state, id.name)}, `);
  const start = `${target.state} = ${unit.call('loop', unit.at(node), `() => [${counters.map((id) => id.name).join(', ')}]`)}`;
  const gaps = [
    unit.gap(node.start, (init ?? test ?? update ?? body).start),
    init ? unit.gap(init.end, (test ?? update ?? body).start) : '',
    test ? unit.gap(test.end, (update ?? body).start) : '',
    update ? unit.gap(update.end, body.start) : '',
  ];
  const more = unit.call('more', target.state, condition(unit, test, context));
  const step = `${unit.call('step', target.state)}${update ? `, ${forks.join('')}${unit.rewrite(update, context)}` : ''}`;
  const rest = `${more};${gaps[2]} ${step})${gaps[3]} ${block(unit, body, inside)}`;
  const label = `${target.label}: for (`;
  if (init?.type === 'VariableDeclaration') {
    const head = `${init.kind} ${declarators(unit, init, context)}, ${start};`;
    return `${label}${gaps[0]}${head}${gaps[1]} ${rest}${skip(unit, body, context)}`;
  }
  const before = init ? unit.rewrite(init, context) : '';
  return `{ const ${start};${gaps[0]} ${label}${before};${gaps[1]} ${rest} }${skip(unit, body, context)}`;
}

function forEach(unit: Unit, node: acorn.ForOfStatement | acorn.ForInStatement, context: Context): string {
  if (node.type === 'ForOfStatement' && node.await) {
    unit.refuse(node, 'for await', 'compute the values outside of the kernel and capture them');
  }
  const [target, inside] = enterLoop(unit, context);
  const { left, right, body } = node;
  let head: string;
  let before = '';
  if (left.type === 'VariableDeclaration') {
    if (left.kind !== 'let' && left.kind !== 'const') unit.refuse(left, `'${left.kind}'`, "use 'const' or 'let'");
    const { pattern, cells } = renamePattern(unit, left.declarations[0].id, context);
    head = `${left.kind} ${pattern}`;
    if (cells.length > 0) before = `let ${cells.join(', ')};`;
  } else {
    const item = unit.name();
    head = `const ${item}`;
    before = `${assignPattern(unit, { ...emptyArrayPattern(left), elements: [left] }, `[${item}]`, context)};`;
  }
  const over = unit.rewrite(right, context);
  const values = unit.call(node.type === 'ForOfStatement' ? 'of' : 'keys', over, unit.at(node));
  const gaps = [unit.gap(node.start, left.start), unit.gap(left.end, right.start), unit.gap(right.end, body.start)];
  return (
    `{ const ${target.state} =${gaps[0]}${gaps[1]} ${values}; ${target.label}: for (${head} of ${target.state})${gaps[2]} ` +
    `${block(unit, body, inside, before)} }${skip(unit, body, context)}`
  );
}

/** A pattern around the one target of `for (x of ...)`. */
function emptyArrayPattern(left: acorn.Pattern): acorn.ArrayPattern {
  const pattern: acorn.ArrayPattern = { type: 'ArrayPattern', start: left.start, end: left.end, elements: [] };
  if (left.loc) pattern.loc = left.loc;
  return pattern;
}

/** The test stays where it stands, as a function that is hoisted to the loop's start. */
function doStatement(unit: Unit, node: acorn.DoWhileStatement, context: Context): string {
  const [target, inside] = enterLoop(unit, context);
  const test = unit.name();
  const changes = assigns(node.test);
  const again = unit.call('do', target.state, `() => ${test}.call(this)`, String(changes));
  const always = node.test.type === 'Literal' && node.test.value === true;
  return (
    `{ ${target.label}: for (const ${target.state} = ${unit.call('loop', unit.at(node))}; ` +
    `${always ? unit.call('more', target.state, 'null') : again}; ${unit.call('step', target.state)})` +
    `${unit.gap(node.start, node.body.start)} ${block(unit, node.body, inside)}${unit.gap(node.body.end, node.test.start)} ` +
    `function ${test}() { return ${unit.rewrite(node.test, context)}; }${unit.gap(node.test.end, node.end)} }${skip(unit, node.body, context)}`
  );
}

function labelled(unit: Unit, node: acorn.LabeledStatement, context: Context): string {
  const pending = [...context.pending, node.label.name];
  const gap = unit.gap(node.start, node.body.start);
  if (node.body.type !== 'BlockStatement') return gap + unit.rewrite(node.body, { ...context, pending });
  const [target, inside] = enter(unit, { ...context, pending }, 'block');
  return (
    `${target.label}: for (const ${target.state} = ${unit.call('block', unit.at(node))}; ${unit.call('once', target.state)};)` +
    `${gap} ${unit.copy(node.body, inside)}${skip(unit, node.body, context)}`
  );
}

function jump(unit: Unit, node: acorn.BreakStatement | acorn.ContinueStatement, context: Context): string {
  const end = unit.gap(node.start, node.end);
  const leaves = node.type === 'BreakStatement';
  const target = node.label ? context.labels.get(node.label.name) : leaves ? context.breakable : context.loop;
  if (!target) return unit.refuse(node, 'this jump', 'it has no target');
  const method = leaves ? 'break' : 'continue';
  // A switch and a block are loops of JavaScript that end by themselves.
  const how = leaves && target.kind === 'loop' ? 'break' : 'continue';
  return (
    `{ if (${unit.call(method, target.state, unit.at(node))}) ${how} ${target.label}; ` +
    `else continue ${context.inner}; }${end}`
  );
}

/** Cases without statements belong to the next one that has some. */
function switchStatement(unit: Unit, node: acorn.SwitchStatement, context: Context): string {
  const [target, inside] = enter(unit, context, 'switch');
  const armContext = { ...inside, breakable: target };
  const groups: string[][] = [];
  const falls: number[] = [];
  let open: string[] = [];
  let bodies = '';
  let at = node.cases[0]?.start ?? node.end - 1;
  for (const [index, one] of node.cases.entries()) {
    open.push(one.test ? `() => (${unit.rewrite(one.test, context).replaceAll('\n', ' ')})` : 'null');
    const last = index === node.cases.length - 1;
    const colon = one.consequent[0]?.start ?? one.end;
    bodies += unit.gap(at, one.start) + ` case ${groups.length}:${unit.gap(one.start, colon)} `;
    at = colon;
    for (const inner of one.consequent) {
      bodies += unit.text(at, inner.start) + unit.rewrite(inner, armContext);
      at = inner.end;
    }
    if (one.consequent.length === 0 && !last) continue;
    if (!last && !leavesAlways(one.consequent)) falls.push(unit.at(one));
    groups.push(open);
    open = [];
  }
  const cases = groups.map((group) => `[${group.join(', ')}]`).join(', ');
  const selector = unit.gap(node.start, node.discriminant.start) + unit.rewrite(node.discriminant, context);
  const first = node.cases[0]?.start ?? node.end - 1;
  return (
    `${target.label}: for (const ${target.state} = ${unit.call('switch', selector, `[${cases}]`, `[${falls.join(', ')}]`, unit.at(node))}; ` +
    `${unit.call('arm', target.state)};) switch (${target.state}.arm) {${unit.gap(node.discriminant.end, first)}` +
    `${bodies}${unit.gap(at, node.end)} }${skip(unit, node, context)}`
  );
}

/** Whether statements end with a jump whatever happens. */
function leavesAlways(statements: readonly acorn.Statement[]): boolean {
  const last = statements.at(-1);
  if (!last) return false;
  if (last.type === 'BlockStatement') return leavesAlways(last.body);
  if (last.type === 'IfStatement') {
    return (
      Boolean(last.alternate) && leavesAlways([last.consequent]) && leavesAlways(last.alternate ? [last.alternate] : [])
    );
  }
  return (
    last.type === 'BreakStatement' ||
    last.type === 'ContinueStatement' ||
    last.type === 'ReturnStatement' ||
    last.type === 'ThrowStatement'
  );
}
