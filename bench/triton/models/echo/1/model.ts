import type { InferenceRequest, InferenceResponse, Model } from '@rose/server/backend';

/** OUTPUT0 is INPUT0. */
export default class Echo implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => ({ outputs: { OUTPUT0: request.take('INPUT0') } }));
  }
}
