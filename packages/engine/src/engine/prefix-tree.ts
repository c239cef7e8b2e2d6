import { assert } from '../errors.ts';
import type { PagePool } from './pages.ts';

/** One page of tokens behind the pages of its parent, with the keys and values the device keeps for it. */
export interface TreeNode {
  readonly parent: TreeNode | undefined;
  /** The page's tokens, as `pageKey` writes them. */
  readonly key: string;
  /** Pages from the root to here, this one included. */
  readonly depth: number;
  /** The page in each layer group. Groups with a window may have none (-1): a hit cannot end where theirs are missing. */
  readonly pages: Int32Array;
  /** The state slot that holds a checkpoint behind this page's last token, or -1. */
  slot: number;
  readonly children: Map<string, TreeNode>;
  /** Sequences that run on this node or below it. */
  pins: number;
  /** Neighbours in the order of last use, while nothing pins the node. */
  older: TreeNode | undefined;
  newer: TreeNode | undefined;
}

/**
 * What is computed already, as a radix tree over whole pages of tokens: two prompts share nodes as far as they agree
 * page by page. There is one tree for each salt, so that nothing of one tenant ever answers another.
 *
 * A running sequence pins its path from the root down. Unpinned nodes are kept in the order of last use, children
 * before their parents, so the oldest one is always a leaf and can be let go of without a search.
 */
export class PrefixTree {
  readonly #pools: readonly PagePool[];
  readonly #slots: PagePool;
  readonly #roots = new Map<string, TreeNode>();
  #oldest: TreeNode | undefined;
  #newest: TreeNode | undefined;
  #unpinned = 0;
  #nodes = 0;

  constructor(pools: readonly PagePool[], slots: PagePool) {
    this.#pools = pools;
    this.#slots = slots;
  }

  root(salt: string): TreeNode {
    let root = this.#roots.get(salt);
    if (root === undefined) {
      root = newNode(undefined, salt, 0, new Int32Array(0));
      this.#roots.set(salt, root);
    }
    return root;
  }

  /** The deepest node below `from` whose path spells tokens from `from`'s end on, at most `maxDepth` pages deep. */
  deepest(from: TreeNode, tokens: Int32Array, pageTokens: number, maxDepth: number): TreeNode {
    let node = from;
    while (node.depth < maxDepth) {
      const child = node.children.get(pageKey(tokens, node.depth, pageTokens));
      if (child === undefined) break;
      node = child;
    }
    return node;
  }

  /** A new child, pinned by nobody yet: the caller pins it before anything else happens. */
  add(parent: TreeNode, key: string): TreeNode {
    const node = newNode(parent, key, parent.depth + 1, new Int32Array(this.#pools.length).fill(-1));
    parent.children.set(key, node);
    this.#nodes++;
    this.#append(node);
    return node;
  }

  /** One more sequence runs on `node`; `above`, an ancestor, is pinned by it already. */
  pin(node: TreeNode, above: TreeNode): void {
    for (let at = node; at !== above; at = at.parent!) {
      if (at.pins++ === 0 && at.parent !== undefined) this.#unlink(at);
    }
  }

  /** One sequence less runs on `node` and its ancestors, the root included. */
  unpin(node: TreeNode): void {
    for (let at: TreeNode | undefined = node; at !== undefined; at = at.parent) {
      assert(at.pins > 0, 'a prefix was let go of more often than it was held');
      if (--at.pins === 0 && at.parent !== undefined) this.#append(at);
    }
    let root = node;
    while (root.parent !== undefined) root = root.parent;
    this.#forget(root);
  }

  /** A sequence begins at a root. */
  pinRoot(root: TreeNode): void {
    root.pins++;
  }

  /** Give back the page used longest ago and everything kept with it. False if every page is in use. */
  evict(): boolean {
    const node = this.#oldest;
    if (node === undefined) return false;
    assert(node.children.size === 0, 'a page was to be evicted before the pages behind it');
    this.#unlink(node);
    this.#nodes--;
    for (let group = 0; group < node.pages.length; group++) {
      if (node.pages[group] >= 0) this.#pools[group].drop(node.pages[group]);
    }
    if (node.slot >= 0) this.#slots.release(node.slot);
    const parent = node.parent!;
    parent.children.delete(node.key);
    if (parent.parent === undefined) this.#forget(parent);
    return true;
  }

  /** Take the group's pages that only the tree holds out of nodes that are in use. True if a page came free. */
  strip(group: number): boolean {
    const pool = this.#pools[group];
    const before = pool.available;
    for (const node of this.all()) {
      const page = node.pages[group];
      if (page < 0 || pool.holders(page) > 1) continue;
      pool.drop(page);
      node.pages[group] = -1;
    }
    return pool.available > before;
  }

  /** Every node but the roots. */
  *all(): Generator<TreeNode> {
    const open = [...this.#roots.values()];
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      if (node.parent !== undefined) yield node;
      for (const child of node.children.values()) open.push(child);
    }
  }

  /** The integrity check of the tree alone: order of last use, pins, parents. */
  check(): void {
    let nodes = 0;
    let unpinned = 0;
    for (const node of this.all()) {
      nodes++;
      if (node.pins === 0) unpinned++;
      for (const child of node.children.values()) {
        assert(child.pins <= node.pins, 'a page is used by more sequences than the page before it');
      }
    }
    assert(nodes === this.#nodes, `the tree counts ${this.#nodes} pages and has ${nodes}`);
    assert(unpinned === this.#unpinned, `the tree counts ${this.#unpinned} unused pages and has ${unpinned}`);
    const seen = new Set<TreeNode>();
    for (let node = this.#oldest; node !== undefined; node = node.newer) {
      assert(node.pins === 0 && !seen.has(node), 'a page is in the order of last use and should not be');
      for (const child of node.children.values()) assert(seen.has(child), 'a page is older than one behind it');
      seen.add(node);
    }
    assert(seen.size === unpinned, `${unpinned - seen.size} unused pages are not in the order of last use`);
  }

  #forget(root: TreeNode): void {
    if (root.pins === 0 && root.children.size === 0) this.#roots.delete(root.key);
  }

  #append(node: TreeNode): void {
    node.older = this.#newest;
    node.newer = undefined;
    if (this.#newest === undefined) this.#oldest = node;
    else this.#newest.newer = node;
    this.#newest = node;
    this.#unpinned++;
  }

  #unlink(node: TreeNode): void {
    if (node.older === undefined) this.#oldest = node.newer;
    else node.older.newer = node.newer;
    if (node.newer === undefined) this.#newest = node.older;
    else node.newer.older = node.older;
    node.older = undefined;
    node.newer = undefined;
    this.#unpinned--;
  }
}

/** The tokens of page `index` as a string: equal strings are equal tokens. */
export function pageKey(tokens: Int32Array, index: number, pageTokens: number): string {
  const halves = new Uint16Array(tokens.buffer, tokens.byteOffset + 4 * index * pageTokens, 2 * pageTokens);
  return String.fromCharCode(...halves);
}

function newNode(parent: TreeNode | undefined, key: string, depth: number, pages: Int32Array): TreeNode {
  const children = new Map<string, TreeNode>();
  return { parent, key, depth, pages, slot: -1, children, pins: 0, older: undefined, newer: undefined };
}
