interface Node {
  readonly next: Map<number, Node>;
  /** The word that ends here. */
  word: string | undefined;
}

/** Words to find in text: the leftmost match, and among those the longest, as tokenizers look for added tokens. */
export class Dictionary {
  readonly #root: Node = { next: new Map(), word: undefined };

  constructor(words: Iterable<string>) {
    for (const word of words) {
      let node = this.#root;
      for (let i = 0; i < word.length; i++) {
        const unit = word.charCodeAt(i);
        let child = node.next.get(unit);
        if (child === undefined) node.next.set(unit, (child = { next: new Map(), word: undefined }));
        node = child;
      }
      node.word = word;
    }
  }

  /** The longest word that starts at `index`. */
  at(text: string, index: number): string | undefined {
    let node: Node | undefined = this.#root;
    let longest: string | undefined;
    for (let i = index; i < text.length; i++) {
      node = node.next.get(text.charCodeAt(i));
      if (node === undefined) break;
      longest = node.word ?? longest;
    }
    return longest;
  }

  /** Every place where a word starts, words that overlap another included. */
  *occurrences(text: string): Iterable<{ readonly index: number; readonly word: string }> {
    for (let index = 0; index < text.length; index++) {
      const word = this.at(text, index);
      if (word !== undefined) yield { index, word };
    }
  }

  /** `text` in pieces: words found from left to right, and what lies between them (never empty). */
  split(text: string): string[] {
    const pieces: string[] = [];
    let start = 0;
    for (let i = 0; i < text.length;) {
      const word = this.at(text, i);
      if (word === undefined) {
        i++;
        continue;
      }
      if (i > start) pieces.push(text.slice(start, i));
      pieces.push(word);
      i += word.length;
      start = i;
    }
    if (start < text.length) pieces.push(text.slice(start));
    return pieces;
  }
}
