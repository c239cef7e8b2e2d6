/** Takes a stream of server-sent events apart; of each only its data matters here. */
export class EventParser {
  #rest = '';
  #data: string[] = [];
  readonly #decoder = new TextDecoder();

  /** The data of the events that these bytes complete. */
  push(bytes: Uint8Array): string[] {
    const events: string[] = [];
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#rest = lines.pop()!;
    for (const whole of lines) {
      const line = whole.endsWith('\r') ? whole.slice(0, -1) : whole;
      if (line.startsWith('data:')) this.#data.push(line.slice(line[5] === ' ' ? 6 : 5));
      else if (line === '' && this.#data.length > 0) {
        events.push(this.#data.join('\n'));
        this.#data = [];
      }
    }
    return events;
  }
}
