/**
 * The C functions of an MPI library, called in this process. Only this file knows the binary interfaces:
 * Open MPI 4 and 5 have their constants behind symbols, MPICH and what shares its interface (Intel MPI, MVAPICH, Cray MPI)
 * as numbers (mpi.h of MPICH 4: MPI_COMM_WORLD, MPI_DOUBLE, MPI_FLOAT, MPI_SUM), and the standard's own interface as
 * pointers of fixed values (MPI 5.0, appendix A: the same constants), whoever made the library.
 *
 * Buffers are passed as they are: MPI reads and writes the memory of the typed arrays.
 */
import { usageError } from '../base/errors.ts'
import { type ForeignLibrary, foreignLibraries } from '../base/foreign-library.ts'

/** A handle as the library defines it: a pointer or a number. */
type Handle = bigint | number

export interface MpiLibrary {
  /** First line of MPI_Get_library_version. */
  readonly version: string
  readonly world: Handle
  readonly float: Handle
  readonly double: Handle
  readonly plus: Handle
  /** Calls a function of the library. Throws where it reports an error. */
  call(name: keyof typeof FUNCTIONS, ...args: readonly (Handle | ArrayBufferView | null)[]): void
}

/** `h` stands for a handle. */
const FUNCTIONS = {
  MPI_Init_thread: ['void*', 'void*', 'int', 'void*'],
  MPI_Comm_rank: ['h', 'void*'],
  MPI_Comm_size: ['h', 'void*'],
  MPI_Alltoall: ['void*', 'int', 'h', 'void*', 'int', 'h', 'h'],
  MPI_Allgather: ['void*', 'int', 'h', 'void*', 'int', 'h', 'h'],
  MPI_Allreduce: ['void*', 'void*', 'int', 'h', 'h', 'h'],
  MPI_Abort: ['h', 'int'],
  MPI_Finalize: [],
} as const

type Constant = 'world' | 'float' | 'double' | 'plus'

interface Interface {
  /** Files that have it, where MNC_MPI names none. */
  readonly names: readonly string[]
  readonly handle: 'void*' | 'int'
  /** Of each constant: its symbol, whose address it is, or its value. */
  readonly constants: Readonly<Record<Constant, string | Handle>>
}

const INTERFACES = {
  'open-mpi': {
    names: ['libmpi.so.40', 'libmpi.40.dylib', 'libmpi.so'],
    handle: 'void*',
    constants: {
      world: 'ompi_mpi_comm_world',
      float: 'ompi_mpi_float',
      double: 'ompi_mpi_double',
      plus: 'ompi_mpi_op_sum',
    },
  },
  mpich: {
    names: ['libmpich.so.12', 'libmpi.so.12', 'libmpi.12.dylib'],
    handle: 'int',
    constants: { world: 0x44000000, float: 0x4c00040a, double: 0x4c00080b, plus: 0x58000003 },
  },
  standard: {
    names: ['libmpi_abi.so.1', 'libmpi_abi.1.dylib'],
    handle: 'void*',
    constants: { world: 0x101n, float: 0x210n, double: 0x214n, plus: 0x21n },
  },
} as const satisfies Readonly<Record<string, Interface>>

/** Of a launcher; its library may have the standard's interface. */
export type MpiFamily = 'open-mpi' | 'mpich'

/** `family`: whose launcher started this process. MNC_MPI names another file. */
export async function loadMpi(family: MpiFamily): Promise<MpiLibrary> {
  const open = await libraries()
  leaveMemoryCalls()
  const named = process.env.MNC_MPI
  const names = [...INTERFACES[family].names, ...INTERFACES.standard.names]
  const faults: string[] = []
  for (const name of named ? [named] : names) {
    try {
      // global: components that the library loads later look for its symbols
      return bind(open(name, { global: true }))
    } catch (error) {
      faults.push(`${name}: ${error instanceof Error ? error.message.split('\n')[0] : error}`)
    }
  }
  throw usageError(
    `mpirun started this process, but its MPI library cannot be loaded: ${faults.join('; ')}`,
    'set MNC_MPI to the path of libmpi, or install it (Debian: openmpi-bin or mpich)',
  )
}

/**
 * UCX, below MPICH, would rewrite the code of mmap, munmap, brk and others in the C library, to learn of memory that is given
 * back, while the threads of Node.js are in it: with UCX 1.13 some runs ended with a segmentation fault in V8 (docs/decisions.md).
 * Read when the library is loaded.
 */
function leaveMemoryCalls(): void {
  process.env.UCX_MEM_EVENTS ??= 'n'
}

async function libraries() {
  try {
    return await foreignLibraries()
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    throw usageError(`mpirun started this process, but MPI cannot be called: ${reason}`, 'npm install koffi')
  }
}

/** MPI_MAX_LIBRARY_VERSION_STRING of all of them. */
const VERSION_BYTES = 8192

function bind(library: ForeignLibrary): MpiLibrary {
  const text = Buffer.alloc(VERSION_BYTES)
  const length = new Int32Array(1)
  library.func('MPI_Get_library_version', 'int', ['void*', 'void*'])(text, length)
  const version = text.toString('utf8', 0, length[0]).split(/\n|\0/)[0]!
  const kind = isStandard(library) ? 'standard' : version.startsWith('Open MPI') ? 'open-mpi' : 'mpich'
  const { handle, constants }: Interface = INTERFACES[kind]
  const constant = (name: Constant): Handle => {
    const value = constants[name]
    return typeof value === 'string' ? library.symbol(value) : value
  }
  const functions = new Map(
    Object.entries(FUNCTIONS).map(([name, types]) => {
      const own = types.map((t) => (t === 'h' ? handle : t))
      return [name, library.func(name, 'int', own)]
    }),
  )
  return {
    ...{ version, world: constant('world'), float: constant('float') },
    ...{ double: constant('double'), plus: constant('plus') },
    call(name, ...args) {
      const status = functions.get(name)!(...args)
      if (status !== 0) throw usageError(`${name} of ${version} failed with error ${status}`)
    },
  }
}

/** Whether its handles are the standard's: it has a version of that interface (MPI_Abi_get_version of MPI 5), not -1. */
function isStandard(library: ForeignLibrary): boolean {
  const [major, minor] = [new Int32Array([-1]), new Int32Array([-1])]
  try {
    library.func('MPI_Abi_get_version', 'int', ['void*', 'void*'])(major, minor)
  } catch {
    // a library of MPI 4 or before
    return false
  }
  return major[0]! > 0
}
