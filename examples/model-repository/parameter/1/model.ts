import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** key and value: names and values of the request's parameters. */
export default class Parameter implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map(({ parameters }) => {
      const names = Object.keys(parameters);
      const values = names.map((name) => String(parameters[name]));
      return {
        outputs: { key: tensor('BYTES', [names.length], names), value: tensor('BYTES', [names.length], values) },
      };
    });
  }
}
