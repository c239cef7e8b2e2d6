import type { IncomingHttpHeaders } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import type { HeaderReader } from '../access/access.ts';

/** Reads the first value of each entry of a call's metadata. */
export function readMetadata(metadata: Metadata): HeaderReader {
  return (name) => metadata.get(name)[0]?.toString();
}

/** The same of a call's headers. Metadata is made of them only where one asks for an entry that is there: few calls have any. */
export function readHeaders(headers: IncomingHttpHeaders): HeaderReader {
  let metadata: Metadata | undefined;
  return (name) => {
    if (headers[name] === undefined) return undefined;
    metadata ??= Metadata.fromHttp2Headers(headers);
    return metadata.get(name)[0]?.toString();
  };
}
