import { promisify } from 'node:util';
import { deflate, gunzip, gzip, inflate } from 'node:zlib';
import { RoseError } from '@rose/engine';

/** Encodings of bodies, by their names in HTTP headers. HTTP's deflate is zlib's format. */
export type Encoding = 'gzip' | 'deflate';

const inflaters = { gzip: promisify(gunzip), deflate: promisify(inflate) };
const deflaters = { gzip: promisify(gzip), deflate: promisify(deflate) };

/** The encoding of a request's body; undefined: as it is. */
export function contentEncoding(header: string | undefined): Encoding | undefined {
  if (header === undefined || header === '' || header === 'identity') return undefined;
  if (header === 'gzip' || header === 'deflate') return header;
  throw new RoseError('unsupported', 'Unsupported compression type');
}

/** @throws RoseError `too_large` when the body would grow beyond `maxBytes`, `invalid` when it is corrupt */
export async function decompress(body: Buffer, encoding: Encoding, maxBytes: number): Promise<Buffer> {
  try {
    return await inflaters[encoding](body, { maxOutputLength: maxBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes);
    throw new RoseError('invalid', `the body is not valid ${encoding} data: ${(error as Error).message}`);
  }
}

export function compress(body: Buffer, encoding: Encoding): Promise<Buffer> {
  return deflaters[encoding](body);
}

export function tooLarge(maxBytes: number): RoseError {
  const advice = 'Use --http-max-input-size to increase the limit.';
  return new RoseError(
    'too_large',
    `the request body exceeds the maximum allowed value of ${maxBytes} bytes. ${advice}`,
  );
}

/** The encoding that a client prefers for the reply; undefined: as it is. Among equals the first listed. */
export function acceptedEncoding(header: string | undefined): Encoding | undefined {
  if (header === undefined) return undefined;
  let best: string | undefined;
  let bestWeight = 0;
  for (const item of header.split(',')) {
    const [name, ...options] = item.split(';').map((part) => part.trim().toLowerCase());
    if (name !== 'gzip' && name !== 'deflate' && name !== 'identity') continue;
    const quality = options.find((option) => option.startsWith('q='));
    const weight = quality === undefined ? 1 : Number(quality.slice(2));
    if (!(weight > bestWeight)) continue;
    best = name;
    bestWeight = weight;
  }
  return best === 'gzip' || best === 'deflate' ? best : undefined;
}
