import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { listFiles, modelInfo } from '@huggingface/hub';
import { RoseError } from '../../errors.ts';
import { COMMIT } from './cache.ts';
import type { HubFile } from './files.ts';
import type { HubName } from './name.ts';

/** Requests to a hub. Every failure is a RoseError: `not_found`, `unavailable`, `cancelled` or `invalid`. */
export interface HubClient {
  readonly endpoint: string;
  /** The commit that a revision names now. */
  commitOf(name: HubName): Promise<string>;
  files(name: HubName, commit: string): Promise<HubFile[]>;
  /** A file's bytes from `start` on. */
  open(name: HubName, commit: string, file: HubFile, start: number): Promise<Response>;
}

/** A client as the environment describes it: HF_ENDPOINT, HF_TOKEN (or the token that `hf auth login` stored). */
export async function hubClient(signal: AbortSignal | undefined): Promise<HubClient> {
  const endpoint = (process.env['HF_ENDPOINT'] || 'https://huggingface.co').replace(/\/+$/, '');
  const token = await readToken();

  /** fetch with our token for the hub itself, and failures in words. Redirects to other hosts lose the token. */
  function fetchFor(name: HubName): typeof fetch {
    return async (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input);
      const headers = new Headers(init?.headers);
      headers.set('user-agent', 'rose');
      if (token !== undefined && url.origin === new URL(endpoint).origin)
        headers.set('authorization', `Bearer ${token}`);
      let response: Response;
      try {
        response = await fetch(url, { ...init, headers, ...(signal && { signal }) });
      } catch (cause) {
        throw connectionError(endpoint, signal, cause);
      }
      if (response.ok) return response;
      await response.body?.cancel();
      throw statusError(name, response, token !== undefined);
    };
  }

  /** What the library throws when an answer breaks off or is not what the hub's API promises. */
  async function understood<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (cause) {
      if (cause instanceof RoseError) throw cause;
      if (!(cause instanceof SyntaxError)) throw connectionError(endpoint, signal, cause);
      throw new RoseError('unavailable', `${endpoint} does not answer like a hub: ${cause.message}`, { cause });
    }
  }

  return {
    endpoint,
    async commitOf(name) {
      if (COMMIT.test(name.revision)) return name.revision;
      const { sha } = await understood(
        modelInfo({
          name: name.repo,
          revision: name.revision,
          hubUrl: endpoint,
          additionalFields: ['sha'],
          fetch: fetchFor(name),
        }),
      );
      if (!COMMIT.test(sha)) throw new RoseError('invalid', `${endpoint} names no commit for ${name.repo}`);
      return sha;
    },

    async files(name, commit) {
      const files: HubFile[] = [];
      const listing = listFiles({
        repo: { type: 'model', name: name.repo },
        revision: commit,
        recursive: true,
        hubUrl: endpoint,
        fetch: fetchFor(name),
      });
      for (const { type, path, size, oid, lfs } of await understood(Array.fromAsync(listing))) {
        if (type !== 'file') continue;
        const etag = lfs?.oid ?? oid ?? '';
        // The name of a file on this disk: nothing else may come from outside.
        if (!/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(etag)) {
          throw new RoseError('invalid', `${endpoint} gives no hash for ${path} of ${name.repo}`);
        }
        files.push({ path, size, etag, hash: lfs === undefined ? 'git' : 'sha256' });
      }
      return files;
    },

    open(name, commit, file, start) {
      const path = file.path.split('/').map(encodeURIComponent).join('/');
      // Compressed, the bytes on the wire would not be those of the range.
      const headers = { 'accept-encoding': 'identity', ...(start > 0 && { range: `bytes=${start}-` }) };
      return fetchFor(name)(`${endpoint}/${name.repo}/resolve/${commit}/${path}`, { headers });
    },
  };
}

/** Whether HF_HUB_OFFLINE forbids the network. */
export function isOffline(): boolean {
  return /^(1|on|yes|true)$/i.test(process.env['HF_HUB_OFFLINE'] ?? '');
}

async function readToken(): Promise<string | undefined> {
  const home =
    process.env['HF_HOME'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'huggingface');
  const stored = process.env['HF_TOKEN_PATH'] ?? join(home, 'token');
  const token = process.env['HF_TOKEN'] ?? (await readFile(stored, 'utf8').catch(() => ''));
  return token.trim() || undefined;
}

/** A connection that failed or was given up, at any moment of a request. */
export function connectionError(endpoint: string, signal: AbortSignal | undefined, cause: unknown): RoseError {
  if (signal?.aborted) return new RoseError('cancelled', 'the download was cancelled; what was fetched is kept');
  const { message, cause: inner } = cause as Error & { cause?: Error };
  const why = inner?.message || message;
  return new RoseError('unavailable', `${endpoint} cannot be reached: ${why}`, { cause });
}

/** The hub hides private repositories: without rights it answers 401 or 404, with `x-error-code` telling more. */
function statusError({ repo, revision }: HubName, response: Response, hasToken: boolean): RoseError {
  const { status, headers } = response;
  const code = headers.get('x-error-code');
  if (code === 'GatedRepo' || (status === 403 && code === null)) {
    const how = hasToken
      ? 'The account of your HF_TOKEN has no access to it: ask for it on its page.'
      : 'Accept its terms on its page, then set HF_TOKEN to a token of that account.';
    return new RoseError('not_found', `${repo} is gated. ${how}`);
  }
  if (code === 'RevisionNotFound') return new RoseError('not_found', `${repo} has no revision "${revision}"`);
  if (code === 'EntryNotFound')
    return new RoseError('not_found', `${new URL(response.url).pathname} is not on the hub`);
  if (status === 401 || status === 404 || status === 403) {
    const hint = hasToken ? 'or your HF_TOKEN may not see it' : 'or it is private: set HF_TOKEN to see private models';
    return new RoseError('not_found', `there is no model ${repo} on ${new URL(response.url).origin}, ${hint}`);
  }
  const what = status === 429 ? 'asks to slow down (429): try again later' : `answered with status ${status}`;
  return new RoseError('unavailable', `${new URL(response.url).origin} ${what}`);
}
