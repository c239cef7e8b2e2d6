import { constants, type ServerHttp2Stream } from 'node:http2';
import { status } from '@grpc/grpc-js';

/** Pieces that any message may come in; more are for those whose pieces are not tiny. */
export const MOST_TINY_PIECES = 8192;
/** Bytes of a piece that is not tiny, on average over its message. */
export const TINY_BYTES = 256;

export const TOO_MANY_PIECES: string = `Received a message in more than ${MOST_TINY_PIECES} pieces of less than ${TINY_BYTES} bytes on average`;
/** In front of a message: a byte that says whether it is compressed, and four of its length. */
export const HEAD = 5;

/**
 * Ends a call whose message comes in too many tiny pieces. grpc-js keeps each piece of a message as an object until the
 * message is whole: of one in pieces of a byte a hundred and more times its size.
 */
export function limitPieces(stream: ServerHttp2Stream): void {
  const pieces = new Pieces();
  const take = (piece: Buffer): void => {
    if (pieces.take(piece)) return;
    stream.off('data', take);
    refuse(stream);
  };
  stream.on('data', take);
}

/** Ends a call as one with too large a message ends, and takes no more of it. Others of its connection go on. */
function refuse(stream: ServerHttp2Stream): void {
  if (stream.closed || stream.destroyed) return;
  if (stream.headersSent) {
    stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    return;
  }
  const headers = {
    ':status': 200,
    'content-type': 'application/grpc+proto',
    'grpc-status': status.RESOURCE_EXHAUSTED,
    'grpc-message': TOO_MANY_PIECES,
  };
  stream.respond(headers, { endStream: true });
  // A reset takes the place of headers that have not gone out.
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
}

/** Counts the pieces of a stream's message that is not whole yet. */
export class Pieces {
  #count = 0;
  /** Bytes of the message that are here, with its head. */
  #bytes = 0;
  /** Of the message's head as far as it is here: its length. */
  #length = 0;
  /** Messages that are whole. */
  whole = 0;
  /** The most bytes that a message has, as far as heads are here. */
  longest = 0;

  /** @returns whether its message has not come in too many pieces */
  take(piece: Uint8Array): boolean {
    this.#count++;
    let at = 0;
    while (at < piece.length) {
      for (; this.#bytes < HEAD && at < piece.length; at++, this.#bytes++) {
        // The first byte is none of the length's, which are the last four.
        this.#length = this.#bytes === 0 ? 0 : this.#length * 256 + piece[at];
      }
      if (this.#bytes < HEAD) break;
      if (this.#length > this.longest) this.longest = this.#length;
      const taken = Math.min(HEAD + this.#length - this.#bytes, piece.length - at);
      at += taken;
      this.#bytes += taken;
      if (this.#bytes < HEAD + this.#length) break;
      this.#bytes = 0;
      this.whole++;
      // What follows in the same piece is the next message's first.
      this.#count = at < piece.length ? 1 : 0;
    }
    return this.#count <= MOST_TINY_PIECES || this.#bytes >= this.#count * TINY_BYTES;
  }
}
