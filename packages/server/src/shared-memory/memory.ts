/** A part of memory that a client and the server both reach, mapped by neither for the other. */
export interface ClientMemory {
  /**
   * Copy what stands at `offset` into `target`.
   * @throws TritonError when the client has made its memory smaller since
   */
  read(offset: number, target: Uint8Array): void;
  /** Copy `source` to `offset`. */
  write(offset: number, source: Uint8Array): void;
  /** Let go of it; it is the client's. */
  close(): void;
}
