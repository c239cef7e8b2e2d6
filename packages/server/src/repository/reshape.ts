import type { ModelConfig, ModelInput, ModelOutput } from '../grpc/proto/model_config_pb.js';
import type { ModelRequest, ModelResponse, ModelSignature } from '../triton/model.ts';
import type { Tensor } from '../triton/tensor.ts';

/** Dimensions of one tensor on both sides, without the batch dimension; -1 is any size, and those keep their order. */
interface Reshape {
  readonly client: readonly number[];
  readonly model: readonly number[];
}

/** Shapes that the model sees otherwise than its clients, as `reshape` in its configuration says. */
export class Reshapes {
  readonly #inputs: ReadonlyMap<string, Reshape>;
  readonly #outputs: ReadonlyMap<string, Reshape>;
  readonly #batched: boolean;

  constructor({ input, output, maxBatchSize }: ModelConfig) {
    this.#inputs = reshapesOf(input);
    this.#outputs = reshapesOf(output);
    this.#batched = maxBatchSize > 0;
  }

  get none(): boolean {
    return this.#inputs.size === 0 && this.#outputs.size === 0;
  }

  /** What the model's own tensors are checked against. */
  inside(signature: ModelSignature): ModelSignature {
    const inside = <T extends { readonly name: string; readonly dims: readonly number[] }>(
      tensor: T,
      reshapes: ReadonlyMap<string, Reshape>,
    ): T => ({ ...tensor, dims: reshapes.get(tensor.name)?.model ?? tensor.dims });
    return {
      ...signature,
      inputs: signature.inputs.map((input) => inside(input, this.#inputs)),
      outputs: signature.outputs.map((output) => inside(output, this.#outputs)),
    };
  }

  /** A checked request, as the model is to see it. */
  toModel(request: ModelRequest): ModelRequest {
    if (this.#inputs.size === 0) return request;
    const inputs = new Map<string, Tensor>();
    for (const [name, tensor] of request.inputs) {
      const reshape = this.#inputs.get(name);
      inputs.set(name, reshape ? this.#with(tensor, reshape.client, reshape.model) : tensor);
    }
    return { ...request, inputs };
  }

  /** A response that fits the configuration, as clients are to see it. */
  toClient(response: ModelResponse): ModelResponse {
    const outputs = response.outputs.map((tensor) => {
      const reshape = this.#outputs.get(tensor.name);
      return reshape ? this.#with(tensor, reshape.model, reshape.client) : tensor;
    });
    return { ...response, outputs };
  }

  #with(tensor: Tensor, from: readonly number[], to: readonly number[]): Tensor {
    const batch = this.#batched ? 1 : 0;
    const free = tensor.shape.slice(batch).filter((_, i) => from[i] === -1);
    let next = 0;
    return {
      ...tensor,
      shape: [...tensor.shape.slice(0, batch), ...to.map((dim) => (dim === -1 ? free[next++] : dim))],
    };
  }
}

function reshapesOf(tensors: readonly (ModelInput | ModelOutput)[]): ReadonlyMap<string, Reshape> {
  return new Map(
    tensors.flatMap(({ name, dims, reshape }) =>
      reshape === undefined ? [] : [[name, { client: dims.map(Number), model: reshape.shape.map(Number) }] as const],
    ),
  );
}
