import { createHash, timingSafeEqual } from 'node:crypto';
import { RoseError } from '@rose/engine';

/** Triton's groups of endpoints, which can be restricted apart. */
export const CATEGORIES = [
  'health',
  'metadata',
  'inference',
  'shared-memory',
  'model-config',
  'model-repository',
  'statistics',
  'trace',
  'logging',
] as const;
export type Category = (typeof CATEGORIES)[number];

/** Groups that only those reach who send a header with a value. */
export interface Restriction {
  readonly categories: readonly Category[];
  /** Over gRPC the metadata's name is `triton-grpc-protocol-` and this. */
  readonly header: string;
  readonly value: string;
}

export interface AccessOptions {
  /** Any of them opens everything but health, which is open. None: everything is open. */
  readonly apiKeys?: readonly string[];
  readonly httpRestrictions?: readonly Restriction[];
  readonly grpcRestrictions?: readonly Restriction[];
}

/** Reads a header of a request, or an entry of a call's metadata, by its name in lower case. */
export type HeaderReader = (name: string) => string | undefined;

/** Who may ask for what. Secrets are compared in a time that does not depend on them. */
export class Access {
  readonly #keys: readonly Buffer[];
  /** By category: the header as people are told its name, and the digest of its value. */
  readonly #restrictions: ReadonlyMap<Category, { readonly header: string; readonly digest: Buffer }>;

  /**
   * @param prefix of the headers' names
   * @throws RoseError `invalid` where a key or restriction is empty, or a category is restricted twice
   */
  constructor(keys: readonly string[], restrictions: readonly Restriction[], prefix: string) {
    if (keys.some((key) => key === '')) throw new RoseError('invalid', 'an API key must not be empty');
    this.#keys = keys.map(digest);
    const byCategory = new Map<Category, { header: string; digest: Buffer }>();
    for (const { categories, header, value } of restrictions) {
      if (!/^[\w-]+$/.test(header)) throw new RoseError('invalid', `'${header}' cannot be the name of a header`);
      if (value === '') throw new RoseError('invalid', `the value of the header '${header}' must not be empty`);
      for (const category of categories) {
        if (byCategory.has(category)) throw new RoseError('invalid', `'${category}' is restricted twice`);
        byCategory.set(category, { header: `${prefix}${header}`, digest: digest(value) });
      }
    }
    this.#restrictions = byCategory;
  }

  /** Whether everybody may ask for everything. */
  get open(): boolean {
    return this.#keys.length === 0 && this.#restrictions.size === 0;
  }

  /** Whether the request has one of the keys, as `Authorization: Bearer KEY` or `X-Api-Key: KEY`, or needs none. */
  hasKey(category: Category, header: HeaderReader): boolean {
    if (this.#keys.length === 0 || category === 'health') return true;
    const [, bearer] = /^Bearer +(\S+) *$/i.exec(header('authorization') ?? '') ?? [];
    return [bearer, header('x-api-key')].some((key) => key !== undefined && this.#isKey(digest(key)));
  }

  /** The header that the request lacks to reach the category; undefined: it may. */
  missingHeader(category: Category, header: HeaderReader): string | undefined {
    const restriction = this.#restrictions.get(category);
    if (restriction === undefined) return undefined;
    const given = header(restriction.header.toLowerCase());
    return given !== undefined && timingSafeEqual(digest(given), restriction.digest) ? undefined : restriction.header;
  }

  /** Compares with every key, so that the time does not tell which one is alike. */
  #isKey(given: Buffer): boolean {
    return this.#keys.reduce((found, key) => timingSafeEqual(given, key) || found, false);
  }
}

function digest(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
