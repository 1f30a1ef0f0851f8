import { cLibrary } from '../c-library.ts'

/**
 * A function that gives memory back to the system which the allocator keeps for later: after many buffers have been freed
 * that is most of a process, and neither a control group nor a monitor can tell it from what is in use. It takes about 0.4 ms
 * per MiB that goes. Undefined where the platform has none (`cLibrary`); there memory stays.
 */
export function allocatorTrim(self: NodeJS.Process): (() => void) | undefined {
  const library = cLibrary(self, { malloc_trim: { arguments: ['uint64'], return: 'int32' } })
  return library && (() => void library.malloc_trim(0n))
}
