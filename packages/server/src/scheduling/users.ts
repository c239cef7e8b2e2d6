/** How many still use something that is to be closed. */
export class Users {
  #count = 0;
  #onNone: () => void = () => {};

  get none(): boolean {
    return this.#count === 0;
  }

  /** Begin to use it. Returns what ends that. */
  enter(): () => void {
    this.#count++;
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      this.#count--;
      if (this.#count === 0) this.#onNone();
    };
  }

  /** Resolves when nobody uses it, or so many milliseconds have passed. */
  async gone(limitMs: number): Promise<void> {
    if (this.#count === 0) return;
    let limit: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onNone = resolve;
      limit = setTimeout(resolve, limitMs);
    });
    clearTimeout(limit);
  }
}
