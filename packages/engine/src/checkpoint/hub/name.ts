import { RoseError } from '../../errors.ts';

/** A model on the hub. */
export interface HubName {
  /** `ORG/NAME`. */
  readonly repo: string;
  /** Branch, tag or commit. */
  readonly revision: string;
}

/** A part of a repository's name as the hub allows it (huggingface_hub's `validate_repo_id`). */
const PART = /^[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?$/;
/** Branches and tags, with `refs/pr/1` among them. */
const REVISION = /^[\w][\w.-]*(?:\/[\w][\w.-]*)*$/;

/** `ORG/NAME` or `ORG/NAME@REVISION`. Throws a RoseError that says what is wrong with it. */
export function parseHubName(text: string): HubName {
  const [repo, ...rest] = text.split('@');
  const revision = rest.length === 0 ? 'main' : rest.join('@');
  const parts = repo.split('/');
  if (parts.length !== 2 || !parts.every(isPart)) {
    throw new RoseError(
      'invalid',
      `"${text}" is neither a directory that exists nor the name of a model on the hub (ORG/NAME or ORG/NAME@REVISION)`,
    );
  }
  if (!REVISION.test(revision) || revision.includes('..')) {
    throw new RoseError(
      'invalid',
      `"${revision}" in "${text}" is not the name of a revision (a branch, tag or commit)`,
    );
  }
  return { repo, revision };
}

function isPart(part: string): boolean {
  return PART.test(part) && !part.includes('--') && !part.includes('..') && !part.endsWith('.git');
}
