import { malformed } from './errors.ts';
import type { ModelSignature, ModelResponse } from './model.ts';

/** The response of a model that answers exactly once. */
export async function onlyResponse(
  { name }: Pick<ModelSignature, 'name'>,
  responses: AsyncIterable<ModelResponse>,
): Promise<ModelResponse> {
  // What `for await` does, with fewer turns.
  const iterator = responses[Symbol.asyncIterator]();
  const first = await iterator.next();
  for (let next = first; next.done !== true;) next = await iterator.next();
  if (first.done !== true) return first.value;
  throw malformed(`model '${name}' did not answer`);
}
