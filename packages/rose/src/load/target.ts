import type { Usage } from './record.ts';

/** A server's streaming endpoint, whatever its protocol. */
export interface Target {
  /** For people and for the report: protocol and model. */
  readonly description: string;
  readonly model: string;
  readonly url: URL;
  /** Tokens that a request may have in all; undefined where the server does not say. */
  readonly context: number | undefined;
  /** Whether an event says that the answer is complete. */
  readonly hasEnd: boolean;
  body(prompt: string, outputTokens: number): object;
  /** Reads the data of one event of the stream. */
  read(data: string): Piece;
}

/** What an event says. */
export interface Piece {
  readonly text: boolean;
  /** The answer is complete. */
  readonly end?: boolean;
  /** Tokens of the request so far, or of this event alone, to be added to those before. */
  readonly usage?: Usage;
  readonly added?: boolean;
  readonly error?: string;
}

/** Sampling fields that every request carries. */
export interface Fields {
  readonly temperature?: number;
  readonly ignoreEos?: boolean;
}
