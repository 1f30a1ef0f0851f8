/** What is used of `node:ffi`, which is experimental and has no types yet. */
interface ForeignFunctions {
  dlopen(library: string, functions: CFunctions): { readonly functions: { readonly [name: string]: CFunction } }
}

export type CFunctions = {
  readonly [name: string]: { readonly arguments: readonly string[]; readonly return: string }
}

/** Takes `bigint` for 64 bits, numbers for fewer. */
export type CFunction = (...parameters: (bigint | number)[]) => number

/**
 * Functions of glibc, by name, through `node:ffi` (Node says once on standard error that it is experimental). Undefined where
 * the platform has none: another system, another C library, or no `node:ffi`.
 */
export function cLibrary(
  self: NodeJS.Process,
  functions: CFunctions,
): { readonly [name: string]: CFunction } | undefined {
  if (self.platform !== 'linux') return undefined
  try {
    const ffi = self.getBuiltinModule('node:ffi') as unknown as ForeignFunctions | undefined
    return ffi?.dlopen('libc.so.6', functions).functions
  } catch {
    return undefined
  }
}
