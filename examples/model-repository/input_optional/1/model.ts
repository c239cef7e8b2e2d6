import type { InferenceRequest, InferenceResponse, Model } from '@rose/server/backend';

/** Each INPUT that the request has comes back as the OUTPUT of its number. */
export default class Copy implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => ({
      outputs: Object.fromEntries(
        request.inputNames.map((name) => [name.replace('INPUT', 'OUTPUT'), request.input(name)]),
      ),
    }));
  }
}
