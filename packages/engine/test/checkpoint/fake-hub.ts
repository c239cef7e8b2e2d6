import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** One repository of the fake hub. */
export interface FakeRepo {
  readonly files: Map<string, Uint8Array>;
  /** What `main` names; changes whenever the test changes the files and calls `commit`. */
  sha: string;
  /** Answer everything about it with this status and `x-error-code`. */
  refuse?: { status: number; code?: string };
  /** Answer only requests that carry this token. */
  token?: string;
  /** Paths whose listed size or content differ from what is served. */
  readonly listed: Map<string, { size?: number; oid?: string }>;
}

export interface FakeRequest {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/**
 * As much of the Hugging Face hub as a download touches: model information, paged file lists, and files that are served
 * from another origin after a redirect, in ranges.
 */
export class FakeHub {
  readonly repos: Map<string, FakeRepo> = new Map();
  /** Requests to the hub, and to the origin that serves files. */
  readonly requests: FakeRequest[] = [];
  readonly storage: FakeRequest[] = [];
  /** Break this many answers off, each after so many bytes. */
  breakOff: { times: number; after: number } = { times: 0, after: 0 };
  ranges = true;
  /** Answer every API request with this text. */
  nonsense: string | undefined;
  readonly #hub: Server = createServer((request, response) => this.#api(request, response));
  readonly #storage: Server = createServer((request, response) => this.#file(request, response));

  async start(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
  }

  get url(): string {
    return urlOf(this.#hub);
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    }
  }

  /** A repository with the files of a directory. */
  add(name: string, directory: string): FakeRepo {
    const files = new Map<string, Uint8Array>();
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      files.set(path.slice(directory.length + 1).replaceAll('\\', '/'), readFileSync(path));
    }
    const repo: FakeRepo = { files, sha: '', listed: new Map() };
    this.repos.set(name, repo);
    this.commit(repo);
    return repo;
  }

  /** Give the repository's present files a commit. */
  commit(repo: FakeRepo): void {
    const hash = createHash('sha1');
    for (const [path, content] of repo.files) hash.update(path).update(content);
    repo.sha = hash.digest('hex');
  }

  /** Files fetched since the last call, with the ranges asked for. */
  takeFetched(): string[] {
    const fetched = this.storage.map(({ path, range }) => {
      const name = path.split('/').slice(4).join('/');
      return range === undefined ? name : `${name} ${range}`;
    });
    this.storage.length = 0;
    return fetched;
  }

  #api(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url!, this.url);
    this.requests.push(describe(request));
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/(.+)$/.exec(pathname);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname);
    const repo = this.repos.get((api ?? file)?.[1] ?? '');
    if (repo === undefined) return fail(response, 401, 'RepoNotFound');
    if (repo.refuse !== undefined) return fail(response, repo.refuse.status, repo.refuse.code);
    if (repo.token !== undefined && request.headers.authorization !== `Bearer ${repo.token}`) {
      return fail(response, 401, 'RepoNotFound');
    }
    if (this.nonsense !== undefined) return void response.writeHead(200).end(this.nonsense);
    const [, name, what, revision] = (api ?? file)!;
    if (file !== null)
      return void response.writeHead(302, { location: `${urlOf(this.#storage)}/${name}/${repo.sha}/${file[3]}` }).end();
    if (revision !== 'main' && revision !== repo.sha) return fail(response, 404, 'RevisionNotFound');
    if (what === 'revision') return json(response, { _id: '1', id: name, sha: repo.sha, private: false });
    this.#list(response, repo, Number(searchParams.get('page') ?? 0), pathname);
  }

  /** Five entries a page, to see that the rest is asked for. */
  #list(response: ServerResponse, repo: FakeRepo, page: number, pathname: string): void {
    const entries = [...repo.files].map(([path, content]) => entryOf(path, content, repo.listed.get(path)));
    const rest = entries.length > 5 * (page + 1);
    if (rest) response.setHeader('link', `<${this.url}${pathname}?recursive=true&page=${page + 1}>; rel="next"`);
    json(response, [
      { type: 'directory', path: 'onnx', oid: '0'.repeat(40), size: 0 },
      ...entries.slice(5 * page, 5 * page + 5),
    ]);
  }

  #file(request: IncomingMessage, response: ServerResponse): void {
    this.storage.push(describe(request));
    const [, organisation, name, , ...rest] = request.url!.split('/');
    const content = this.repos.get(`${organisation}/${name}`)?.files.get(decodeURIComponent(rest.join('/')));
    if (content === undefined) return fail(response, 404, undefined);
    const start = this.ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
    const body = content.subarray(start);
    const headers = {
      'content-length': body.byteLength,
      ...(start > 0 && { 'content-range': `bytes ${start}-${content.byteLength - 1}/${content.byteLength}` }),
    };
    response.writeHead(start > 0 ? 206 : 200, headers);
    if (this.breakOff.times > 0 && body.byteLength > this.breakOff.after) {
      this.breakOff.times--;
      response.write(body.subarray(0, this.breakOff.after), () => setTimeout(() => response.destroy(), 10));
    } else {
      response.end(body);
    }
  }
}

/** Weights are large files with their SHA-256, all others have the id of their git blob. */
function entryOf(path: string, content: Uint8Array, listed: { size?: number; oid?: string } = {}): unknown {
  const size = listed.size ?? content.byteLength;
  const oid = createHash('sha1').update(`blob ${content.byteLength}\0`).update(content).digest('hex');
  if (!path.endsWith('.safetensors')) return { type: 'file', path, size, oid: listed.oid ?? oid };
  const sha256 = listed.oid ?? createHash('sha256').update(content).digest('hex');
  return { type: 'file', path, size, oid: '1'.repeat(40), lfs: { oid: sha256, size, pointerSize: 130 } };
}

function describe(request: IncomingMessage): FakeRequest {
  return { path: request.url!, range: request.headers.range, authorization: request.headers.authorization };
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(value));
}

function fail(response: ServerResponse, status: number, code: string | undefined): void {
  if (code !== undefined) response.setHeader('x-error-code', code);
  response.statusCode = status;
  json(response, { error: 'refused' });
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
