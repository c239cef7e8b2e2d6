/**
 * CUresult: what each code means for a person, and what to do. Codes, names and which of them leave a process unusable:
 * `cuda.h` ("leaves the process in an inconsistent state and any further CUDA work will return the same error").
 */
export interface Result {
  readonly name: string;
  readonly meaning: string;
  readonly hint: string;
  /** The device cannot be used any more by this process. */
  readonly sticky?: true;
}

export const NOT_READY = 600;
export const PEER_ACCESS_ALREADY_ENABLED = 704;

const RESTART = 'restart the process';
const OURS = 'this is a fault of the caller';

const RESULTS: Readonly<Record<number, Result>> = {
  1: result('INVALID_VALUE', 'an argument is out of range', OURS),
  2: result(
    'OUT_OF_MEMORY',
    'the device (or pinned host memory) has not enough free memory',
    'use a smaller model, batch or cache, or free what other processes hold (see nvidia-smi)',
  ),
  3: result('NOT_INITIALIZED', 'the driver was not initialised', OURS),
  4: result('DEINITIALIZED', 'the driver is shutting down', RESTART, true),
  34: result(
    'STUB_LIBRARY',
    'a stub was loaded instead of the driver',
    'remove the toolkit’s stubs directory from LD_LIBRARY_PATH',
  ),
  36: result('CALL_REQUIRES_NEWER_DRIVER', 'the driver is too old for this call', 'update the driver'),
  46: result(
    'DEVICE_UNAVAILABLE',
    'another process holds the device exclusively',
    'stop it, or set the compute mode to Default (nvidia-smi -c 0)',
  ),
  100: result('NO_DEVICE', 'the driver finds no GPU', 'check nvidia-smi and CUDA_VISIBLE_DEVICES'),
  101: result('INVALID_DEVICE', 'there is no device of this number', 'list the devices'),
  200: result('INVALID_IMAGE', 'the compiled kernel is no valid image', 'clear the cubin cache and compile again'),
  201: result('INVALID_CONTEXT', 'no valid context is current on this thread', OURS),
  205: result('MAP_FAILED', 'memory could not be mapped', 'check the limits of locked memory (ulimit -l)'),
  208: result('ALREADY_MAPPED', 'the memory is mapped already', 'map it once'),
  209: result(
    'NO_BINARY_FOR_GPU',
    'the kernel was compiled for another architecture',
    'compile the PTX for this device’s own architecture',
  ),
  214: result(
    'ECC_UNCORRECTABLE',
    'the memory has an error that ECC could not correct',
    `${RESTART}; check the GPU`,
    true,
  ),
  215: result('UNSUPPORTED_LIMIT', 'the device does not have this limit', OURS),
  217: result('PEER_ACCESS_UNSUPPORTED', 'these devices cannot reach each other’s memory', 'copy through the host'),
  218: result('INVALID_PTX', 'the PTX does not compile', 'read the compile log'),
  220: result(
    'NVLINK_UNCORRECTABLE',
    'NVLink has an error that could not be corrected',
    `${RESTART}; check the links`,
    true,
  ),
  221: result('JIT_COMPILER_NOT_FOUND', 'the driver’s PTX compiler is missing', 'install libnvidia-ptxjitcompiler'),
  222: result(
    'UNSUPPORTED_PTX_VERSION',
    'the PTX’s version is newer than the driver',
    'update the driver, or emit an older .version',
  ),
  223: result('JIT_COMPILATION_DISABLED', 'CUDA_DISABLE_PTX_JIT is set', 'unset it'),
  226: result('CONTAINED', 'a fault of the hardware was contained, and ended this process’s use of it', RESTART, true),
  300: result('INVALID_SOURCE', 'the kernel’s source is invalid', 'read the compile log'),
  304: result('OPERATING_SYSTEM', 'a call of the operating system failed', 'look into the kernel’s log (dmesg)'),
  400: result('INVALID_HANDLE', 'a handle is not valid, or its object is gone', OURS),
  401: result('ILLEGAL_STATE', 'an object is not in a state that allows this', OURS),
  500: result('NOT_FOUND', 'there is no symbol of this name', 'check the kernel’s name against its PTX'),
  600: result('NOT_READY', 'work before it has not finished', 'wait for it'),
  700: result(
    'ILLEGAL_ADDRESS',
    'a kernel read or wrote memory that is not mapped',
    `${RESTART}; run the kernel in the simulator, which names the line`,
    true,
  ),
  701: result(
    'LAUNCH_OUT_OF_RESOURCES',
    'the kernel needs more registers, threads or shared memory than a multiprocessor has',
    'use fewer threads or cap the registers',
  ),
  702: result(
    'LAUNCH_TIMEOUT',
    'a kernel ran longer than the system allows',
    `${RESTART}; use a GPU without a display`,
    true,
  ),
  704: result('PEER_ACCESS_ALREADY_ENABLED', 'peer access is on already', 'enable it once'),
  705: result('PEER_ACCESS_NOT_ENABLED', 'peer access is off', 'enable it first'),
  708: result('PRIMARY_CONTEXT_ACTIVE', 'the primary context is in use already', OURS),
  709: result('CONTEXT_IS_DESTROYED', 'the context is gone', OURS, true),
  710: result('ASSERT', 'an assertion in a kernel failed', `${RESTART}; the kernel’s own message says where`, true),
  711: result('TOO_MANY_PEERS', 'the device has no room for another peer', 'use fewer devices'),
  712: result('HOST_MEMORY_ALREADY_REGISTERED', 'the host memory is pinned already', 'pin it once'),
  713: result('HOST_MEMORY_NOT_REGISTERED', 'the host memory is not pinned', OURS),
  714: result('HARDWARE_STACK_ERROR', 'a kernel’s call stack is broken or too deep', RESTART, true),
  715: result('ILLEGAL_INSTRUCTION', 'a kernel met an instruction that it cannot execute', RESTART, true),
  716: result(
    'MISALIGNED_ADDRESS',
    'a kernel read or wrote at an address that is not a multiple of the access’s size',
    `${RESTART}; run the kernel in the simulator, which names the line`,
    true,
  ),
  717: result('INVALID_ADDRESS_SPACE', 'a kernel used an address of another memory space', RESTART, true),
  718: result('INVALID_PC', 'a kernel jumped to an address without code', RESTART, true),
  719: result('LAUNCH_FAILED', 'a kernel failed (a trap, or an access out of bounds of shared memory)', RESTART, true),
  720: result(
    'COOPERATIVE_LAUNCH_TOO_LARGE',
    'the grid has more CTAs than fit the device at one time',
    'launch at most occupancy times multiprocessors',
  ),
  721: result('TENSOR_MEMORY_LEAK', 'a kernel ended without freeing its tensor memory', RESTART, true),
  800: result('NOT_PERMITTED', 'the operation is not permitted', 'check the process’s rights'),
  801: result('NOT_SUPPORTED', 'the device or system does not support this', 'check the device’s attributes'),
  802: result('SYSTEM_NOT_READY', 'the system’s GPU services are not running', 'start nvidia-fabricmanager'),
  803: result(
    'SYSTEM_DRIVER_MISMATCH',
    'the library and the kernel’s module differ in version',
    'reboot, or reinstall the driver',
  ),
  804: result(
    'COMPAT_NOT_SUPPORTED_ON_DEVICE',
    'this GPU does not run CUDA’s compatibility package',
    'update the driver',
  ),
  805: result('MPS_CONNECTION_FAILED', 'the MPS server cannot be reached', 'start it or unset CUDA_MPS_PIPE_DIRECTORY'),
  900: result('STREAM_CAPTURE_UNSUPPORTED', 'this cannot be captured into a graph', 'do it before the capture'),
  901: result('STREAM_CAPTURE_INVALIDATED', 'an earlier error ended the capture', 'look at the first error'),
  902: result('STREAM_CAPTURE_MERGE', 'two captures would be joined', OURS),
  903: result('STREAM_CAPTURE_UNMATCHED', 'the capture did not begin on this stream', OURS),
  904: result(
    'STREAM_CAPTURE_UNJOINED',
    'another stream was not joined before the capture ended',
    'wait for its event first',
  ),
  905: result('STREAM_CAPTURE_ISOLATION', 'the capture would depend on work outside of it', 'do it before the capture'),
  906: result('STREAM_CAPTURE_IMPLICIT', 'the default stream would join the capture', 'use a stream of your own'),
  907: result('CAPTURED_EVENT', 'the event was recorded inside a capture', 'use another event'),
  908: result('STREAM_CAPTURE_WRONG_THREAD', 'the capture began on another thread', 'end it there'),
  909: result('TIMEOUT', 'a wait timed out', RESTART),
  910: result('GRAPH_EXEC_UPDATE_FAILURE', 'the graph cannot be updated in this way', 'capture it again'),
  912: result('INVALID_CLUSTER_SIZE', 'no multiprocessor group fits a cluster of this size', 'use a smaller cluster'),
  999: result('UNKNOWN', 'the driver failed for an unknown reason', `${RESTART}; look into the kernel’s log (dmesg)`),
};

function result(name: string, meaning: string, hint: string, sticky?: true): Result {
  return { name: `CUDA_ERROR_${name}`, meaning, hint, ...(sticky ? { sticky } : {}) };
}

/** What a CUresult means. Unknown codes have a row too. */
export function resultOf(code: number): Result {
  return (
    RESULTS[code] ?? {
      name: `CUDA error ${code}`,
      meaning: 'an error that this version of Rose does not know',
      hint: 'look the code up in the CUDA driver API’s CUresult',
    }
  );
}
