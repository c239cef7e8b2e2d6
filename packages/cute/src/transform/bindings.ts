import type * as acorn from 'acorn';
import { childrenOf, isFunction, targetsOf, type AnyNode, type FunctionNode } from './syntax.ts';

/** A variable of a marked function. */
export interface Binding {
  readonly name: string;
  readonly kind: 'let' | 'const' | 'var' | 'param' | 'function' | 'class';
  /** The function it belongs to. */
  readonly owner: AnyNode;
  /** It is assigned after its declaration: it becomes a cell. */
  reassigned: boolean;
  /** A function inside its own refers to it. */
  captured: boolean;
}

type Scope = Map<string, Binding>;

/** Which identifiers inside marked functions mean which variable. What is declared outside of them is not in here. */
export class Bindings {
  private readonly meaning = new Map<AnyNode, Binding>();

  of(identifier: AnyNode): Binding | undefined {
    return this.meaning.get(identifier);
  }

  /** Whether an identifier is a variable that is assigned after its declaration. */
  isCell(identifier: AnyNode): boolean {
    return this.meaning.get(identifier)?.reassigned ?? false;
  }

  /** Reads a marked function; functions inside it belong to it. */
  analyse(root: FunctionNode): void {
    this.visitFunction(root, []);
  }

  private introduce(pattern: AnyNode, scope: Scope, kind: Binding['kind'], owner: AnyNode): void {
    for (const target of targetsOf(pattern)) {
      // A function's body may declare a `var` again; the first declaration stands for both.
      const binding = scope.get(target.name) ?? { name: target.name, kind, owner, reassigned: false, captured: false };
      scope.set(target.name, binding);
      this.meaning.set(target, binding);
    }
  }

  private hoist(statements: readonly AnyNode[], scope: Scope, owner: AnyNode): void {
    for (const statement of statements) {
      if (statement.type === 'VariableDeclaration') this.hoistDeclaration(statement, scope, owner);
      if (statement.type === 'FunctionDeclaration' && statement.id)
        this.introduce(statement.id, scope, 'function', owner);
      if (statement.type === 'ClassDeclaration' && statement.id) this.introduce(statement.id, scope, 'class', owner);
    }
  }

  private hoistDeclaration(node: acorn.VariableDeclaration, scope: Scope, owner: AnyNode): void {
    const kind = node.kind === 'let' || node.kind === 'var' ? node.kind : 'const';
    for (const { id } of node.declarations) this.introduce(id, scope, kind, owner);
  }

  private visitFunction(node: FunctionNode, chain: readonly Scope[]): void {
    const scope: Scope = new Map();
    if (node.type === 'FunctionExpression' && node.id) this.introduce(node.id, scope, 'function', node);
    for (const param of node.params) this.introduce(param, scope, 'param', node);
    const inside = [...chain, scope];
    for (const param of node.params) this.visit(param, inside, node);
    if (node.body.type === 'BlockStatement') {
      const body: Scope = new Map();
      this.hoist(node.body.body, body, node);
      for (const statement of node.body.body) this.visit(statement, [...inside, body], node);
    } else this.visit(node.body, inside, node);
  }

  private visit(node: AnyNode, chain: readonly Scope[], owner: AnyNode): void {
    if (isFunction(node)) {
      this.visitFunction(node, chain);
      return;
    }
    switch (node.type) {
      case 'Identifier':
        this.refer(node, chain, owner);
        return;
      case 'BlockStatement':
      case 'StaticBlock':
        this.visitScope(node.body, node.body, chain, owner);
        return;
      case 'SwitchStatement':
        this.visit(node.discriminant, chain, owner);
        this.visitScope(
          node.cases.flatMap((one) => one.consequent),
          node.cases,
          chain,
          owner,
        );
        return;
      case 'ForStatement':
      case 'ForOfStatement':
      case 'ForInStatement': {
        const head = node.type === 'ForStatement' ? node.init : node.left;
        if (head && head.type !== 'VariableDeclaration' && node.type !== 'ForStatement') this.assign(head, chain);
        this.visitScope(head ? [head] : [], childrenOf(node), chain, owner);
        return;
      }
      case 'AssignmentExpression':
        this.assign(node.left, chain);
        break;
      case 'UpdateExpression':
        this.assign(node.argument, chain);
        break;
      case 'MemberExpression':
        this.visit(node.object, chain, owner);
        if (node.computed) this.visit(node.property, chain, owner);
        return;
      case 'Property':
      case 'MethodDefinition':
      case 'PropertyDefinition':
        if (node.computed) this.visit(node.key, chain, owner);
        if (node.value) this.visit(node.value, chain, owner);
        return;
      case 'LabeledStatement':
        this.visit(node.body, chain, owner);
        return;
      case 'BreakStatement':
      case 'ContinueStatement':
      case 'MetaProperty':
        return;
      default:
    }
    for (const child of childrenOf(node)) this.visit(child, chain, owner);
  }

  private visitScope(
    declarations: readonly AnyNode[],
    nodes: readonly AnyNode[],
    chain: readonly Scope[],
    owner: AnyNode,
  ): void {
    const scope: Scope = new Map();
    this.hoist(declarations, scope, owner);
    for (const node of nodes) this.visit(node, [...chain, scope], owner);
  }

  private refer(node: acorn.Identifier, chain: readonly Scope[], owner: AnyNode): void {
    const binding = this.meaning.get(node) ?? find(node.name, chain);
    if (!binding) return;
    this.meaning.set(node, binding);
    if (binding.owner !== owner) binding.captured = true;
  }

  private assign(pattern: AnyNode, chain: readonly Scope[]): void {
    for (const target of targetsOf(pattern)) {
      const binding = find(target.name, chain);
      if (binding && binding.kind !== 'const') binding.reassigned = true;
    }
  }
}

function find(name: string, chain: readonly Scope[]): Binding | undefined {
  return chain.findLast((scope) => scope.has(name))?.get(name);
}
