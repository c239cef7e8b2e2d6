import { Template } from '@huggingface/jinja';

/** A node of the library's syntax tree. */
interface Node {
  readonly type: string;
  readonly value?: unknown;
  readonly [field: string]: unknown;
}

/** What Python takes for white space; JavaScript counts U+FEFF too, but not the information separators and U+0085. */
const isSpace = (unit: string): boolean => /[^\S\uFEFF]/.test(unit) || '\x1c\x1d\x1e\x1f\x85'.includes(unit);

const stripper = (left: boolean, right: boolean): ((text: unknown, characters?: unknown) => string) =>
  function strip(text, characters) {
    if (typeof text !== 'string') throw new Error('what is to be stripped is not a string');
    const units = Array.from(text);
    const stays = (unit: string): boolean =>
      typeof characters === 'string' ? !characters.includes(unit) : !isSpace(unit);
    const first = units.findIndex(stays);
    if (first < 0) return '';
    return units.slice(left ? first : 0, right ? units.findLastIndex(stays) + 1 : undefined).join('');
  };

/** Python's methods that the library lacks or cuts short: its `strip` takes no characters. */
const METHODS = { strip: stripper(true, true), lstrip: stripper(true, false), rstrip: stripper(false, true) };
const functionOf = (method: string): string => `python ${method}`;

/** A parsed template, and what its expressions are made of. */
export interface ParsedTemplate {
  /** Texts the template spells in its expressions, such as the roles it tells apart. */
  readonly literals: ReadonlySet<string>;
  /** Names of its variables and of the fields it reads. */
  readonly identifiers: ReadonlySet<string>;
  render(context: Readonly<Record<string, unknown>>): string;
}

/** Throws the library's errors. */
export function parseTemplate(source: string): ParsedTemplate {
  const template = new Template(source);
  const literals = new Set<string>();
  const identifiers = new Set<string>();
  visit(template.parsed, (node) => {
    if (node.type === 'StringLiteral') literals.add(node.value as string);
    if (node.type === 'Identifier') identifiers.add(node.value as string);
    if (node.type === 'CallExpression') callOurs(node as Node & Call);
  });
  const methods = Object.fromEntries(Object.entries(METHODS).map(([name, method]) => [functionOf(name), method]));
  return { literals, identifiers, render: (context) => template.render({ ...context, ...methods }) };
}

interface Call {
  callee: Node;
  args: unknown[];
}

/** `text.strip(x)` becomes a call of our function with the text and x; no template can spell the function's name. */
function callOurs(call: Call): void {
  const { type, object, property, computed } = call.callee;
  const name = (property as Node | undefined)?.value;
  if (type !== 'MemberExpression' || computed === true || typeof name !== 'string' || !Object.hasOwn(METHODS, name))
    return;
  call.callee = { type: 'Identifier', value: functionOf(name) };
  call.args = [object, ...call.args];
}

function visit(tree: unknown, see: (node: Node) => void): void {
  if (typeof tree !== 'object' || tree === null) return;
  if (typeof (tree as Node).type === 'string') see(tree as Node);
  const children = tree instanceof Map ? [...tree].flat() : Object.values(tree);
  for (const child of children) visit(child, see);
}
