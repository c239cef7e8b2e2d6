import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Restriction, ServerOptions } from '@rose/server';
import { CommandError, ExitCode } from './errors.ts';
import { collect, integer } from './options.ts';

/** What the command line says of who may ask for what, of TLS, and of how much clients may send. */
export interface SecurityFlags {
  apiKey?: string[];
  apiKeyFile?: string;
  httpRestrictedApi?: string[];
  grpcRestrictedProtocol?: string[];
  corsOrigin?: string[];
  tlsCertificate?: string;
  tlsKey?: string;
  tlsClientCa?: string;
  httpMaxInputSize: number;
  receiveTimeoutSeconds: number;
}

const GROUPS: readonly Restriction['categories'][number][] = [
  'health',
  'metadata',
  'inference',
  'shared-memory',
  'model-config',
  'model-repository',
  'statistics',
  'trace',
  'logging',
];

export function addSecurityOptions(command: Command): Command {
  return command
    .option('--api-key <key>', 'a key that clients must send (several times: any of them)', collect)
    .option('--api-key-file <file>', 'a file with such keys, one a line')
    .option(
      '--http-restricted-api <rule>',
      'GROUPS:HEADER=VALUE: only requests with that header reach these groups of HTTP endpoints (several times)',
      collect,
    )
    .option(
      '--grpc-restricted-protocol <rule>',
      'GROUPS:NAME=VALUE: the same for gRPC, with metadata triton-grpc-protocol-NAME (several times)',
      collect,
    )
    .option(
      '--cors-origin <origin>',
      'scheme://host[:port] of pages that may call the HTTP port from a browser; * lets all (several times; default: none)',
      collect,
    )
    .option('--tls-certificate <file>', 'serve TLS on all ports with this certificate and those of its issuers (PEM)')
    .option('--tls-key <file>', "the certificate's key (PEM)")
    .option('--tls-client-ca <file>', 'clients need a certificate that one of these vouches for (PEM)')
    .option('--http-max-input-size <bytes>', 'largest body of a request, and largest tensor', integer(1), 64 * 2 ** 20)
    .option(
      '--receive-timeout-seconds <n>',
      'refuse a request that has not come completely after so long',
      integer(1, 86_400),
      300,
    );
}

export function accessOptions(flags: SecurityFlags): NonNullable<ServerOptions['access']> {
  const { apiKey = [], apiKeyFile, httpRestrictedApi = [], grpcRestrictedProtocol = [] } = flags;
  return {
    apiKeys: [
      ...apiKey.map((key) => checkKey(key, '--api-key')),
      ...(apiKeyFile === undefined ? [] : keysIn(apiKeyFile)),
    ],
    httpRestrictions: restrictions('--http-restricted-api', httpRestrictedApi),
    grpcRestrictions: restrictions('--grpc-restricted-protocol', grpcRestrictedProtocol),
  };
}

export function tlsOptions({ tlsCertificate, tlsKey, tlsClientCa }: SecurityFlags): ServerOptions['tls'] {
  if (tlsCertificate === undefined || tlsKey === undefined) {
    if (tlsCertificate === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
    throw wrong('TLS needs both --tls-certificate and --tls-key.');
  }
  return {
    certificate: read(tlsCertificate, '--tls-certificate'),
    key: read(tlsKey, '--tls-key'),
    ...(tlsClientCa !== undefined && { clientCa: read(tlsClientCa, '--tls-client-ca') }),
  };
}

function keysIn(file: string): string[] {
  const lines = read(file, '--api-key-file')
    .split('\n')
    .map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  // An empty list would open the server to everybody.
  if (keys.length === 0) throw wrong(`--api-key-file: ${file} has no keys.`);
  return keys.map((key) => checkKey(key, '--api-key-file'));
}

/** What stands in a header: anything else could never be sent. */
function checkKey(key: string, option: string): string {
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  throw wrong(`${option}: a key is made of visible ASCII characters without spaces.`);
}

function restrictions(option: string, rules: readonly string[]): Restriction[] {
  const seen = new Set<string>();
  return rules.map((rule) => {
    const [, groups, header, value] = /^([^:]+):([\w-]+)=(.+)$/.exec(rule) ?? [];
    if (groups === undefined) throw wrong(`${option} ${rule}: write GROUPS:NAME=VALUE, groups separated by commas.`);
    const categories = groups.split(',').map((name) => {
      const group = GROUPS.find((candidate) => candidate === name);
      if (group === undefined) throw wrong(`${option}: there is no group '${name}', only ${GROUPS.join(', ')}.`);
      if (seen.has(group)) throw wrong(`${option}: '${group}' is restricted twice.`);
      seen.add(group);
      return group;
    });
    return { categories, header, value };
  });
}

function read(file: string, option: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw wrong(`${option}: cannot read ${file}: ${(error as Error).message}.`);
  }
}

function wrong(message: string): CommandError {
  return new CommandError(ExitCode.usage, message);
}
