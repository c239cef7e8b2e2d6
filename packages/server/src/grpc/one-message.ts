import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import { HEAD, Pieces, TOO_MANY_PIECES } from './pieces.ts';
import { CallError } from './status.ts';

/** Encodings of messages, by their names in `grpc-encoding`. gRPC's deflate is zlib's format, as HTTP's is. */
const inflaters = new Map([
  ['gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
]);

/** The one message that a stream brings, gathered from its pieces. Refusals have the texts that grpc-js has for them. */
export class OneMessage {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #counter: Pieces = new Pieces();
  #pieces: Buffer[] = [];

  /**
   * @param path of the method, for what is said of a refused message
   * @param maxBytes the longest message that is taken, also when it is unpacked
   */
  constructor(path: string, maxBytes: number) {
    this.#path = path;
    this.#maxBytes = maxBytes;
  }

  /** @throws CallError when the message is too large, comes in too many tiny pieces, or is not the only one */
  take(piece: Buffer): void {
    const counter = this.#counter;
    if (counter.whole === 0) this.#pieces.push(piece);
    if (!counter.take(piece)) throw new CallError(status.RESOURCE_EXHAUSTED, TOO_MANY_PIECES);
    if (counter.longest > this.#maxBytes) {
      const sizes = `${counter.longest} vs ${this.#maxBytes}`;
      throw new CallError(status.RESOURCE_EXHAUSTED, `Received message larger than max (${sizes})`);
    }
    if (counter.whole > 1) {
      throw new CallError(status.UNIMPLEMENTED, `Received a second request message for unary method ${this.#path}`);
    }
  }

  /**
   * The message, of which the stream has brought all that it will.
   * @param encoding the stream's `grpc-encoding`
   * @throws CallError when there is none
   */
  whole(encoding: string | undefined): Buffer | Promise<Buffer> {
    if (this.#counter.whole === 0) {
      throw new CallError(status.UNIMPLEMENTED, `Received no request message for unary method ${this.#path}`);
    }
    const pieces = this.#pieces;
    this.#pieces = [];
    const bytes = pieces.length === 1 ? pieces[0] : joined(pieces);
    // Bytes behind it that are no message are left alone.
    const message = bytes.subarray(HEAD, HEAD + bytes.readUInt32BE(1));
    return bytes[0] === 1 ? unpack(message, encoding, this.#maxBytes) : message;
  }
}

function joined(pieces: readonly Buffer[]): Buffer {
  try {
    return Buffer.concat(pieces);
  } catch {
    throw new CallError(status.RESOURCE_EXHAUSTED, 'Failed to allocate memory');
  }
}

async function unpack(message: Buffer, encoding = 'identity', maxBytes: number): Promise<Buffer> {
  if (encoding === 'identity') return message;
  const inflater = inflaters.get(encoding);
  if (inflater === undefined) {
    throw new CallError(status.UNIMPLEMENTED, `Received message compressed with unsupported encoding "${encoding}"`);
  }
  try {
    return await inflater(message, { maxOutputLength: maxBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new CallError(
        status.RESOURCE_EXHAUSTED,
        `Received message that decompresses to a size larger than ${maxBytes}`,
      );
    }
    throw new CallError(status.INTERNAL, 'Failed to decompress message');
  }
}
