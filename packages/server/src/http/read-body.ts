import type { IncomingMessage } from 'node:http';
import { RoseError } from '@rose/engine';
import { LARGE_BYTES } from '../triton/bytes.ts';
import { tooLarge } from './compression.ts';

/** Before a body that is gathered fewer bytes than this may lie. */
export const ALIGNMENT = 8;
/** More pieces than this must have so many bytes each on average: a piece of one byte takes hundreds of memory. */
const MANY_PIECES = 65_536;
const FAIR_PIECE_BYTES = 512;

/**
 * The bytes of a request's body.
 * @param aligned offset of a byte that should lie where eight bytes are aligned: the first tensor's
 * @throws RoseError `too_large` beyond `maxBytes`, `invalid` when the connection ends before the body or the body comes
 *   in too many tiny pieces
 */
export function readBody(request: IncomingMessage, maxBytes: number, aligned = 0): Promise<Buffer> {
  const announced = Number(request.headers['content-length'] ?? Number.NaN);
  if (announced > maxBytes) return Promise.reject(tooLarge(maxBytes));
  return new Promise((resolve, reject) => {
    // As it comes, in memory that can be handed to a model's thread.
    const gathered = announced >= LARGE_BYTES ? allocate(announced, aligned) : undefined;
    const chunks: Buffer[] = [];
    let length = 0;
    let complete = false;
    request.on('data', (chunk: Buffer) => {
      const size = chunk.length;
      const tiny = chunks.length >= MANY_PIECES && length < chunks.length * FAIR_PIECE_BYTES;
      if (tiny || length + size > maxBytes) {
        // What still comes is thrown away: the reply closes the connection.
        request.removeAllListeners('data').resume();
        chunks.length = 0;
        reject(tiny ? tooManyPieces() : tooLarge(maxBytes));
        return;
      }
      if (gathered === undefined) chunks.push(chunk);
      else {
        chunk.copy(gathered, length);
        // The parser made it for us alone. Freed now, its memory serves for the next one; left to the garbage collector, a
        // gigabyte of requests takes half of the time to collect.
        if (size === chunk.buffer.byteLength) (chunk.buffer as ArrayBuffer).transfer(0);
      }
      length += size;
    });
    request.on('end', () => {
      complete = true;
      // What did not come is no part of it: that memory is not cleared.
      if (gathered !== undefined) resolve(length === announced ? gathered : gathered.subarray(0, length));
      else resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, length));
    });
    // Whoever waits for the answer is gone too.
    request.on('close', () => {
      if (!complete) reject(new RoseError('invalid', 'the connection ended before the body of the request'));
    });
    request.on('error', reject);
  });
}

function tooManyPieces(): RoseError {
  const pieces = `more than ${MANY_PIECES} chunks of less than ${FAIR_PIECE_BYTES} bytes on average`;
  return new RoseError('invalid', `the body comes in ${pieces}: send larger ones`);
}

function allocate(length: number, aligned: number): Buffer {
  const start = (ALIGNMENT - (aligned % ALIGNMENT)) % ALIGNMENT;
  return Buffer.allocUnsafeSlow(start + length).subarray(start);
}
