import { KernelError } from './error.ts';
import type { Node } from './ir.ts';

/** A node's attribute as a whole or broken number; a missing one without a default is an error. */
export function numberOf(node: Node, name: string, otherwise?: number): number {
  const value = node.attributes[name] ?? otherwise;
  if (typeof value !== 'number') throw wrong(node, name, 'a number');
  return value;
}

/** A node's attribute as text. */
export function textOf(node: Node, name: string, otherwise?: string): string {
  const value = node.attributes[name] ?? otherwise;
  if (typeof value !== 'string') throw wrong(node, name, 'a text');
  return value;
}

/** Whether an attribute is set to true; absent is false unless said otherwise. */
export function flagOf(node: Node, name: string, otherwise = false): boolean {
  const value = node.attributes[name] ?? otherwise;
  if (typeof value !== 'boolean') throw wrong(node, name, 'true or false');
  return value;
}

/** One of a few words; anything else is an error that lists them. */
export function choiceOf<T extends string>(node: Node, name: string, choices: readonly T[], otherwise?: T): T {
  const value = node.attributes[name] ?? otherwise;
  for (const choice of choices) if (choice === value) return choice;
  throw wrong(node, name, `one of ${choices.join(', ')}`);
}

function wrong(node: Node, name: string, expected: string): KernelError {
  const value = node.attributes[name];
  const found = value === undefined ? 'it is missing' : `it is ${JSON.stringify(value)}`;
  return new KernelError(`${node.op}: attribute ${name} must be ${expected}; ${found}`, node.position);
}
