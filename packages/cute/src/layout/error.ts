/** An operation of the layout algebra was asked for something that has no answer; the message says why in words. */
export class LayoutError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LayoutError';
  }
}
