import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { create, type Message } from '@bufbuild/protobuf';
import type { SharedMemoryRegions } from '../shared-memory/regions.ts';
import {
  CudaSharedMemoryRegisterResponseSchema,
  CudaSharedMemoryStatusResponse_RegionStatusSchema,
  CudaSharedMemoryStatusResponseSchema,
  CudaSharedMemoryUnregisterResponseSchema,
  SystemSharedMemoryRegisterResponseSchema,
  SystemSharedMemoryStatusResponse_RegionStatusSchema,
  SystemSharedMemoryStatusResponseSchema,
  SystemSharedMemoryUnregisterResponseSchema,
  type CudaSharedMemoryRegisterRequest,
  type CudaSharedMemoryStatusRequest,
  type CudaSharedMemoryUnregisterRequest,
  type SystemSharedMemoryRegisterRequest,
  type SystemSharedMemoryStatusRequest,
  type SystemSharedMemoryUnregisterRequest,
} from './proto/inference_pb.js';

type Handler = UntypedServiceImplementation[string];
type Unary = <Request>(answer: (call: { readonly request: Request }) => Promise<Message>) => Handler;

/** The calls of Triton's shared memory extensions. */
export function sharedMemoryService(regions: SharedMemoryRegions, unary: Unary): UntypedServiceImplementation {
  return {
    SystemSharedMemoryStatus: unary<SystemSharedMemoryStatusRequest>(async ({ request }) => {
      const found = regions.status('system', request.name).map(({ name, key, offset, byte_size }) => {
        const status = { name, key, offset: BigInt(offset), byteSize: BigInt(byte_size) };
        return [name, create(SystemSharedMemoryStatusResponse_RegionStatusSchema, status)];
      });
      return create(SystemSharedMemoryStatusResponseSchema, { regions: Object.fromEntries(found) });
    }),
    SystemSharedMemoryRegister: unary<SystemSharedMemoryRegisterRequest>(async ({ request }) => {
      regions.registerSystem(request.name, request.key, request.offset, request.byteSize);
      return create(SystemSharedMemoryRegisterResponseSchema);
    }),
    SystemSharedMemoryUnregister: unary<SystemSharedMemoryUnregisterRequest>(async ({ request }) => {
      regions.unregister('system', request.name);
      return create(SystemSharedMemoryUnregisterResponseSchema);
    }),
    CudaSharedMemoryStatus: unary<CudaSharedMemoryStatusRequest>(async ({ request }) => {
      const found = regions.status('CUDA', request.name).map(({ name, device_id, byte_size }) => {
        const status = { name, deviceId: BigInt(device_id), byteSize: BigInt(byte_size) };
        return [name, create(CudaSharedMemoryStatusResponse_RegionStatusSchema, status)];
      });
      return create(CudaSharedMemoryStatusResponseSchema, { regions: Object.fromEntries(found) });
    }),
    CudaSharedMemoryRegister: unary<CudaSharedMemoryRegisterRequest>(async ({ request }) => {
      await regions.registerCuda(request.name, request.rawHandle, request.deviceId, request.byteSize);
      return create(CudaSharedMemoryRegisterResponseSchema);
    }),
    CudaSharedMemoryUnregister: unary<CudaSharedMemoryUnregisterRequest>(async ({ request }) => {
      regions.unregister('CUDA', request.name);
      return create(CudaSharedMemoryUnregisterResponseSchema);
    }),
  };
}
