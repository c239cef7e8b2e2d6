export {
  architectureOf,
  chooseAssembler,
  DriverAssembler,
  PtxasAssembler,
  type AssembleOptions,
  type Assembler,
  type Compiled,
} from './assembler.ts';
export {
  CompileError,
  formatDiagnostic,
  type Diagnostic,
  type KernelResources,
  type SourcePlace,
} from './compile-log.ts';
export { Context } from './context.ts';
export {
  CublasLt,
  CublasLtError,
  LibraryProduct,
  openCublasLt,
  type LibraryProductOperands,
  type LibraryProductShape,
} from './cublaslt.ts';
export { CubinCache, cubinKey } from './cubin-cache.ts';
export { Device, listDevices, type DeviceAttribute } from './device.ts';
export { Driver, loadDriver, openDriver, versionText } from './driver.ts';
export { CudaError, CudaUnavailableError, CudaUsageError, DeviceLostError } from './errors.ts';
export { Event, type EventOptions } from './event.ts';
export { cacheDirectory, type FileCacheOptions } from './file-cache.ts';
export type { Ffi, ForeignFunction, HostData, Word } from './ffi.ts';
export { Graph, GraphExec } from './graph.ts';
export { exportEvent, exportMemory, importEvent, ImportedMemory } from './ipc.ts';
export { compile, keptImage, makeImage, type CompileOptions, type Image } from './image.ts';
export { Kernel } from './kernel.ts';
export { PreparedLaunch, type Argument, type LaunchFacts } from './launch.ts';
export { copyBandwidth, measure, measureGraph, type Measurement, type MeasureOptions } from './measure.ts';
export { DeviceBlock, DeviceMemory, PinnedMemory, type DeviceRange } from './memory.ts';
export { KernelFunction, Module, type FunctionFacts, type LoadedModule } from './module.ts';
export { GpuMonitor } from './nvml.ts';
export { enablePeerAccess } from './peer.ts';
export { MemoryPool, PoolMemory } from './pool.ts';
export { layoutParameters, type Dim3, type ParameterKind, type Program, type ProgramParameter } from './program.ts';
export { ProgramCache } from './program-cache.ts';
export { Resource, type ResourceKind } from './resource.ts';
export { Stream, type HostRange } from './stream.ts';
export { checkTensorMap, encodeTensorMap, TensorMap, type TensorMapOptions } from './tensor-map.ts';
