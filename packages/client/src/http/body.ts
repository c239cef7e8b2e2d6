import { InferenceError } from '../errors.ts';

/**
 * Read a body so that what begins at `start` lies at a multiple of 8 in memory: typed arrays can then look at it where
 * it is.
 */
export async function readAligned(response: Response, start: number): Promise<Uint8Array<ArrayBuffer>> {
  const before = (8 - (start % 8)) % 8;
  const length = lengthOf(response);
  // Without a length the body is gathered first; that is one copy more.
  const chunks = length === undefined ? await gather(response) : undefined;
  const bytes = length ?? chunks!.reduce((sum, chunk) => sum + chunk.length, 0);
  const body = new Uint8Array(before + bytes);
  let at = before;
  for await (const chunk of chunks ?? (response.body as unknown as AsyncIterable<Uint8Array>)) {
    if (at + chunk.length > body.length) break;
    body.set(chunk, at);
    at += chunk.length;
  }
  if (at < body.length) {
    throw new InferenceError('network', `the answer ended after ${at - before} of its ${bytes} bytes`);
  }
  return body.subarray(before);
}

/** A compressed body's length says nothing of what comes out. */
function lengthOf({ headers, body }: Response): number | undefined {
  const length = headers.get('content-length');
  const plain = (headers.get('content-encoding') ?? 'identity') === 'identity';
  return length !== null && plain && body !== null ? Number(length) : undefined;
}

async function gather({ body }: Response): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  if (body === null) return chunks;
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return chunks;
    chunks.push(value as Uint8Array);
  }
}

/** Compressed as HTTP's `gzip` or `deflate`, which is zlib's format. */
export async function compressed(
  bytes: Uint8Array<ArrayBuffer>,
  format: 'gzip' | 'deflate',
): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
