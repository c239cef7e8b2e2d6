import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { ServerCredentials } from '@grpc/grpc-js';
import { RoseError } from '@rose/engine';

/** Texts in PEM format. */
export interface TlsOptions {
  /** The server's certificate, and those that vouch for it behind it. */
  readonly certificate: string;
  readonly key: string;
  /** Clients must have a certificate that one of these vouches for. Default: they need none. */
  readonly clientCa?: string;
}

/** A client that begins and does not go on holds nothing for longer. */
const HANDSHAKE_MS = 20_000;

/** @throws RoseError `invalid` where certificate and key cannot be read, or do not belong together */
export function checkTls({ certificate, key, clientCa }: TlsOptions): void {
  try {
    // What is no certificate would be passed over in silence.
    const ca = clientCa === undefined ? undefined : new X509Certificate(clientCa).toString();
    createSecureContext({ cert: certificate, key, ca });
  } catch (error) {
    throw new RoseError('invalid', `TLS cannot be served with these files: ${(error as Error).message}`);
  }
}

/** For an HTTPS server. */
export function httpTls({ certificate, key, clientCa }: TlsOptions): object {
  const clients = { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  return { cert: certificate, key, handshakeTimeout: HANDSHAKE_MS, ...(clientCa !== undefined && clients) };
}

export function grpcCredentials(tls: TlsOptions | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const { certificate, key, clientCa } = tls;
  const pair = { cert_chain: Buffer.from(certificate), private_key: Buffer.from(key) };
  const ca = clientCa === undefined ? null : Buffer.from(clientCa);
  return ServerCredentials.createSsl(ca, [pair], clientCa !== undefined);
}
