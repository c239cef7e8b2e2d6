import type { Context } from './context.ts';
import type { PreparedLaunch } from './launch.ts';
import { Out } from './out.ts';
import { Resource } from './resource.ts';
import type { Stream } from './stream.ts';
import { getWord, KERNEL_NODE_PARAMS } from './structs.ts';

const NODE_KERNEL = 0;

/** Captured work: a template from which executable graphs are made. */
export class Graph extends Resource {
  constructor(context: Context, handle: number) {
    super(context, 'graph', handle);
  }

  /** The nodes' handles, in the order of their making. */
  nodes(): number[] {
    const count = new Out();
    this.context.run('cuGraphGetNodes', this.handle, null, count.data);
    const nodes = new DataView(new ArrayBuffer(8 * Math.max(1, count.word)));
    this.context.run('cuGraphGetNodes', this.handle, nodes, count.data);
    return Array.from({ length: count.word }, (_, at) => getWord(nodes, 8 * at));
  }

  /** Whether a node is a kernel. */
  isKernel(node: number): boolean {
    const out = new Out();
    this.context.run('cuGraphNodeGetType', node, out.data);
    return out.i32 === NODE_KERNEL;
  }

  /** A kernel node's function and grid. */
  kernel(node: number): { function: number; grid: [number, number, number] } {
    const params = new DataView(new ArrayBuffer(KERNEL_NODE_PARAMS.bytes));
    this.context.run('cuGraphKernelNodeGetParams_v2', node, params);
    const axis = (at: number): number => params.getUint32(KERNEL_NODE_PARAMS.grid + 4 * at, true);
    return { function: getWord(params, KERNEL_NODE_PARAMS.function), grid: [axis(0), axis(1), axis(2)] };
  }

  instantiate(): GraphExec {
    return new GraphExec(this);
  }

  protected override release(handle: number): void {
    this.context.run('cuGraphDestroy', handle);
  }
}

/** A graph ready to run: one call replays all its work. Independent of the graph it was made from, but for node names. */
export class GraphExec extends Resource {
  constructor(graph: Graph) {
    const out = new Out();
    graph.context.run('cuGraphInstantiateWithFlags', out.data, graph.handle, 0);
    super(graph.context, 'executable graph', out.word);
  }

  /** Moves what it needs to the device, so that the first launch is no slower than the others. */
  upload(stream: Stream): void {
    this.context.run('cuGraphUpload', this.handle, stream.handle);
  }

  launch(stream: Stream): void {
    const { context } = this;
    context.enter('cuGraphLaunch');
    const code = context.driver.calls.cuGraphLaunch(this.handle, stream.handle);
    if (code !== 0) context.fail('cuGraphLaunch', code);
  }

  /**
   * Gives a kernel node (of the graph this was made from, which must be alive) the grid and arguments that `launch`
   * has now. The function must belong to the same context; cluster and other attributes stay as captured.
   */
  update(node: number, launch: PreparedLaunch): void {
    this.context.run('cuGraphExecKernelNodeSetParams_v2', this.handle, node, launch.nodeParams());
  }

  protected override release(handle: number): void {
    this.context.run('cuGraphExecDestroy', handle);
  }
}
