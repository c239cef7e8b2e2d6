import type * as acorn from 'acorn';
import { DIRECTIVE } from './directive.ts';

export type AnyNode = acorn.AnyNode;
export type FunctionNode =
  | acorn.FunctionDeclaration
  | acorn.FunctionExpression
  | acorn.ArrowFunctionExpression
  | acorn.AnonymousFunctionDeclaration;

/** Syntax that a kernel may not contain: what it is, where, and what to write instead. */
export class TransformError extends SyntaxError {
  readonly file: string;
  readonly line: number;
  readonly column: number;

  constructor(message: string, file: string, line: number, column: number) {
    super(`${file}:${line}:${column}: ${message}`);
    this.name = 'TransformError';
    this.file = file;
    this.line = line;
    this.column = column;
  }
}

export function isFunction(node: AnyNode): node is FunctionNode {
  return (
    node.type === 'FunctionDeclaration' || node.type === 'FunctionExpression' || node.type === 'ArrowFunctionExpression'
  );
}

/** Statements at the start of a function that are nothing but a text. */
export function directivesOf(node: FunctionNode): acorn.ExpressionStatement[] {
  if (node.body.type !== 'BlockStatement') return [];
  const directives: acorn.ExpressionStatement[] = [];
  for (const statement of node.body.body) {
    if (statement.type !== 'ExpressionStatement' || statement.directive === undefined) break;
    directives.push(statement);
  }
  return directives;
}

/** Whether a function says `'use gpu'` at its start. */
export function isMarked(node: AnyNode): node is FunctionNode {
  return isFunction(node) && directivesOf(node).some((statement) => statement.directive === DIRECTIVE);
}

function isNode(value: unknown): value is AnyNode {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

/** Nodes directly inside a node, in the order of the text. A shorthand property has one child, not the same twice. */
export function childrenOf(node: AnyNode): AnyNode[] {
  const children: AnyNode[] = [];
  for (const [key, value] of Object.entries(node) as [string, unknown][]) {
    if (key === 'loc') continue;
    if (Array.isArray(value)) children.push(...value.filter(isNode));
    else if (isNode(value)) children.push(value);
  }
  children.sort((a, b) => a.start - b.start || a.end - b.end);
  return children.filter((child, index) => index === 0 || child.start >= children[index - 1].end);
}

/** Whether a node or something inside it, nested functions left out, satisfies a test. */
export function contains(node: AnyNode, test: (node: AnyNode) => boolean): boolean {
  return test(node) || childrenOf(node).some((child) => !isFunction(child) && contains(child, test));
}

/** Whether control may leave a statement by other ways than its end. */
export function jumps(node: AnyNode): boolean {
  return contains(
    node,
    ({ type }) => type === 'BreakStatement' || type === 'ContinueStatement' || type === 'ReturnStatement',
  );
}

/** Identifiers that a pattern gives values to. */
export function targetsOf(pattern: AnyNode): acorn.Identifier[] {
  switch (pattern.type) {
    case 'Identifier':
      return [pattern];
    case 'ObjectPattern':
      return pattern.properties.flatMap((property) =>
        targetsOf(property.type === 'RestElement' ? property : property.value),
      );
    case 'ArrayPattern':
      return pattern.elements.flatMap((element) => (element ? targetsOf(element) : []));
    case 'AssignmentPattern':
      return targetsOf(pattern.left);
    case 'RestElement':
      return targetsOf(pattern.argument);
    default:
      return [];
  }
}
