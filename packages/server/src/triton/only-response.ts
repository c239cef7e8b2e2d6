import { malformed } from './errors.ts';
import type { ModelSignature, ModelResponse } from './model.ts';

/** The response of a model that answers exactly once. */
export async function onlyResponse(
  { name }: Pick<ModelSignature, 'name'>,
  responses: AsyncIterable<ModelResponse>,
): Promise<ModelResponse> {
  let only: ModelResponse | undefined;
  for await (const response of responses) only ??= response;
  if (only !== undefined) return only;
  throw malformed(`model '${name}' did not answer`);
}
