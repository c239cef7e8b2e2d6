import { assert } from '../errors.ts';
import type { Batch } from './batch.ts';
import { PagePool } from './pages.ts';
import { pageKey, PrefixTree, type TreeNode } from './prefix-tree.ts';

/** What a device keeps of running sequences: the shape of its pools. */
export interface CacheShape {
  readonly pageTokens: number;
  readonly groups: readonly { readonly window: number | undefined; readonly pages: number }[];
  /** Slots for states of fixed size (linear attention); 0 for models without. */
  readonly slots: number;
}

/** One sequence's pages, by group and by position / pageTokens, its slots, and its place in the prefix tree. */
export class KvTables {
  /** Page numbers of each group. Entries below `first` were let go of: no token sees them any more. */
  readonly tables: Int32Array[];
  readonly first: Int32Array;
  /** Entries in use, the same in all groups. */
  pages = 0;
  slot = -1;
  /** Which of the device's histories counts its tokens, where penalties ask for that. */
  history: number;
  /** The deepest page of tokens in the tree that this sequence runs on. */
  node: TreeNode;
  #inUse: readonly Int32Array[] = [];

  constructor(root: TreeNode, groups: number, history: number) {
    this.node = root;
    this.history = history;
    this.tables = Array.from({ length: groups }, () => new Int32Array(8));
    this.first = new Int32Array(groups);
  }

  /** The entries in use alone: views of `tables`, the same ones until there are more, so that a step makes none. */
  get inUse(): readonly Int32Array[] {
    const { pages, tables } = this;
    if (this.#inUse.length === 0 || this.#inUse[0].length !== pages) {
      this.#inUse = tables.map((table) => table.subarray(0, pages));
    }
    return this.#inUse;
  }

  push(pages: Int32Array): void {
    for (let group = 0; group < this.tables.length; group++) {
      if (this.pages === this.tables[group].length) {
        const longer = new Int32Array(2 * this.pages);
        longer.set(this.tables[group]);
        this.tables[group] = longer;
      }
      this.tables[group][this.pages] = pages[group];
    }
    this.pages++;
  }
}

/**
 * The memory of running sequences: a pool of pages for each layer group, a pool of state slots, and the prefix tree,
 * which keeps what is no longer used for as long as nobody needs the room.
 *
 * A group with a window needs only the pages that the window touches: the others are let go of as a sequence goes on,
 * and the tree keeps that group's pages only where a hit may end (`insert`).
 */
export class KvCache {
  readonly shape: CacheShape;
  readonly pools: readonly PagePool[];
  readonly slots: PagePool;
  readonly tree: PrefixTree;
  readonly #taken: Int32Array;
  /** Histories that nobody has, of those that somebody had. */
  readonly #histories: number[] = [];
  #historyCount = 0;

  constructor(shape: CacheShape) {
    this.shape = shape;
    this.pools = shape.groups.map(({ pages }) => new PagePool(pages));
    this.slots = new PagePool(shape.slots);
    this.tree = new PrefixTree(this.pools, this.slots);
    this.#taken = new Int32Array(shape.groups.length);
  }

  /**
   * Begin a sequence on the longest prefix of `tokens[0 .. length)` that is computed already, in whole pages and never
   * all of it, since the last token has to be computed for what follows. The hit is clamped to where every group still
   * has the pages its window sees, and to a state checkpoint where the model has states.
   * @param batch the step that will run the sequence's first rows
   * @returns undefined if there is no free state slot
   */
  begin(salt: string, tokens: Int32Array, length: number, batch: Batch): KvTables | undefined {
    let slot = -1;
    if (this.slots.size > 0) {
      slot = this.#take(this.slots, -1);
      if (slot < 0) return undefined;
    }
    const root = this.tree.root(salt);
    const tables = new KvTables(root, this.pools.length, this.#history());
    tables.slot = slot;
    this.tree.pinRoot(root);
    const { pageTokens } = this.shape;
    let node = this.tree.deepest(root, tokens, pageTokens, Math.floor((length - 1) / pageTokens));
    while (node !== root && !this.#resumable(node)) node = node.parent!;
    this.tree.pin(node, root);
    tables.node = node;
    const path: TreeNode[] = [];
    for (let at = node; at !== root; at = at.parent!) path.push(at);
    for (const at of path.reverse()) tables.push(at.pages);
    if (node.slot >= 0) batch.addCopy(this.pools.length, node.slot, slot);
    for (let group = 0; group < this.pools.length; group++) {
      tables.first[group] = this.#firstSeen(group, node.depth * pageTokens);
      tables.tables[group].fill(0, 0, tables.first[group]);
      for (let i = tables.first[group]; i < tables.pages; i++) this.pools[group].share(tables.tables[group][i]);
    }
    return tables;
  }

  /** How far prompts like this one were computed, in pages: deeper than a hit where a checkpoint was missing. */
  branchPoint(tables: KvTables, tokens: Int32Array, length: number): number {
    const { pageTokens } = this.shape;
    const depth = Math.floor((length - 1) / pageTokens);
    return this.tree.deepest(tables.node, tokens, pageTokens, depth).depth;
  }

  /**
   * A second sequence on everything the first one has; they part as they write (`write`). Undefined for models with
   * states: the state behind rows that are only being composed cannot be copied yet, so their siblings begin at a
   * checkpoint, like everybody else.
   */
  fork(from: KvTables): KvTables | undefined {
    if (this.slots.size > 0) return undefined;
    let root = from.node;
    while (root.parent !== undefined) root = root.parent;
    const tables = new KvTables(from.node, this.pools.length, this.#history());
    tables.pages = from.pages;
    this.tree.pinRoot(root);
    this.tree.pin(from.node, root);
    for (let group = 0; group < this.pools.length; group++) {
      tables.tables[group] = from.tables[group].slice();
      tables.first[group] = from.first[group];
      for (let i = from.first[group]; i < from.pages; i++) this.pools[group].share(from.tables[group][i]);
    }
    return tables;
  }

  /**
   * Make the pages of positions [from, to) the sequence's own to write, taking new ones and evicting old ones as needed.
   * A page begun together with another sequence is copied first. False if the room is not there; what was taken stays.
   */
  write(tables: KvTables, from: number, to: number, batch: Batch): boolean {
    const { pageTokens } = this.shape;
    const at = Math.floor(from / pageTokens);
    if (from % pageTokens !== 0 && at < tables.pages && !this.#part(tables, at, batch)) return false;
    const needed = Math.ceil(to / pageTokens);
    while (tables.pages < needed) {
      for (let group = 0; group < this.pools.length; group++) {
        const page = this.#take(this.pools[group], group);
        if (page < 0) {
          while (--group >= 0) this.pools[group].release(this.#taken[group]);
          return false;
        }
        this.#taken[group] = page;
      }
      tables.push(this.#taken);
    }
    return true;
  }

  /** Let go of pages that no token from `position` on sees. */
  trim(tables: KvTables, position: number): void {
    for (let group = 0; group < this.pools.length; group++) {
      if (this.shape.groups[group].window === undefined) continue;
      const first = Math.min(this.#firstSeen(group, position), tables.pages);
      for (let i = tables.first[group]; i < first; i++) {
        this.pools[group].release(tables.tables[group][i]);
        tables.tables[group][i] = 0;
      }
      if (first > tables.first[group]) tables.first[group] = first;
    }
  }

  /**
   * Let others find the first `pages` pages, which must be full and computed. Where the tree has them already, the
   * sequence goes on with the tree's and gives its own back: their bits are the same. A hit can end at this depth
   * afterwards: windowed groups leave the pages that the next token sees.
   */
  insert(tables: KvTables, tokens: Int32Array, pages: number): void {
    const { pageTokens } = this.shape;
    assert(pages <= tables.pages, 'pages that a sequence does not have cannot be shared');
    let node = tables.node;
    while (node.depth < pages) {
      const key = pageKey(tokens, node.depth, pageTokens);
      const child = node.children.get(key) ?? this.tree.add(node, key);
      this.tree.pin(child, node);
      for (let group = 0; group < this.pools.length; group++) {
        if (this.shape.groups[group].window === undefined) this.#merge(tables, child, group);
      }
      node = child;
    }
    const end = node.depth === pages;
    if (node !== tables.node) tables.node = node;
    if (!end) return;
    for (let group = 0; group < this.pools.length; group++) {
      if (this.shape.groups[group].window === undefined) continue;
      const first = Math.max(this.#firstSeen(group, pages * pageTokens), tables.first[group]);
      for (let at = node; at.depth > first; at = at.parent!) this.#merge(tables, at, group);
    }
  }

  /** Keep the sequence's state as it is behind its last full page, so that a hit may end there. */
  checkpoint(tables: KvTables, batch: Batch): void {
    const { node } = tables;
    if (this.slots.size === 0 || node.slot >= 0 || node.parent === undefined) return;
    const slot = this.#take(this.slots, -1);
    if (slot < 0) return;
    batch.addCopy(this.pools.length, tables.slot, slot);
    node.slot = slot;
  }

  /** The sequence is gone, or has to begin again. */
  end(tables: KvTables): void {
    for (let group = 0; group < this.pools.length; group++) {
      for (let i = tables.first[group]; i < tables.pages; i++) this.pools[group].release(tables.tables[group][i]);
    }
    if (tables.slot >= 0) this.slots.release(tables.slot);
    this.tree.unpin(tables.node);
    this.#histories.push(tables.history);
    tables.pages = 0;
    tables.slot = -1;
    tables.history = -1;
  }

  /** As few as there can be: below the number of sequences. */
  #history(): number {
    return this.#histories.pop() ?? this.#historyCount++;
  }

  /** Forget what is kept for prompts to come. */
  clear(): void {
    while (this.tree.evict());
  }

  /**
   * Whether a sequence of `tokens` tokens of which `have` are computed can expect its pages without taking them from
   * running ones, each of which may soon need `reserve` more.
   */
  hasRoom(tokens: number, have: number, reserve: number): boolean {
    const { pageTokens, groups } = this.shape;
    return groups.every(({ window }, group) => {
      const pool = this.pools[group];
      const all = Math.ceil(tokens / pageTokens);
      const seen = window === undefined ? all : Math.min(all, Math.ceil(window / pageTokens) + 1);
      const shared = window === undefined ? Math.floor(have / pageTokens) : 0;
      return seen - shared + reserve <= pool.available + pool.kept;
    });
  }

  /** The integrity check: every page and slot is held by exactly those who are known to hold it. */
  check(sequences: Iterable<KvTables>): void {
    const counts = this.pools.map((pool) => new Int32Array(pool.size));
    const inTree = this.pools.map((pool) => new Uint8Array(pool.size));
    const slots = new Int32Array(this.slots.size);
    const histories = new Set(this.#histories);
    for (const { tables, first, pages, slot, history } of sequences) {
      histories.add(history);
      counts.forEach((count, group) => {
        for (let i = first[group]; i < pages; i++) count[tables[group][i]]++;
      });
      if (slot >= 0) slots[slot]++;
    }
    for (const { pages, slot } of this.tree.all()) {
      counts.forEach((count, group) => {
        if (pages[group] < 0) return;
        count[pages[group]]++;
        inTree[group][pages[group]] = 1;
      });
      if (slot >= 0) slots[slot]++;
    }
    this.pools.forEach((pool, group) => pool.check(counts[group], inTree[group]));
    this.slots.check(slots);
    this.tree.check();
    assert(histories.size === this.#historyCount && !histories.has(-1), 'a history has two owners, or none');
  }

  /** The first entry of a group's table that a token at `position` or later sees. */
  #firstSeen(group: number, position: number): number {
    const { window } = this.shape.groups[group];
    if (window === undefined) return 0;
    return Math.max(0, Math.floor((position + 1 - window) / this.shape.pageTokens));
  }

  #resumable(node: TreeNode): boolean {
    if (this.slots.size > 0 && node.slot < 0) return false;
    for (let group = 0; group < this.pools.length; group++) {
      const first = this.#firstSeen(group, node.depth * this.shape.pageTokens);
      for (let at: TreeNode = node; at.depth > first; at = at.parent!) if (at.pages[group] < 0) return false;
    }
    return true;
  }

  /** The tree and the sequence hold one page for the node's tokens. */
  #merge(tables: KvTables, node: TreeNode, group: number): void {
    const pool = this.pools[group];
    const table = tables.tables[group];
    const own = table[node.depth - 1];
    const known = node.pages[group];
    if (known === own) return;
    if (known < 0) {
      pool.keep(own);
      node.pages[group] = own;
    } else {
      pool.share(known);
      pool.release(own);
      table[node.depth - 1] = known;
    }
  }

  /** Copy the page at index `at` in every group where somebody else holds it too. */
  #part(tables: KvTables, at: number, batch: Batch): boolean {
    for (let group = 0; group < this.pools.length; group++) {
      const shared = tables.tables[group][at];
      if (at < tables.first[group] || this.pools[group].holders(shared) === 1) continue;
      const page = this.#take(this.pools[group], group);
      if (page < 0) return false;
      batch.addCopy(group, shared, page);
      this.pools[group].release(shared);
      tables.tables[group][at] = page;
    }
    return true;
  }

  #take(pool: PagePool, group: number): number {
    while (pool.available === 0) {
      if (this.tree.evict()) continue;
      if (group < 0 || this.shape.groups[group].window === undefined || !this.tree.strip(group)) return -1;
    }
    return pool.take();
  }
}
