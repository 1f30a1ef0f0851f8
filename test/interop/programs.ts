import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The programs of others that the interop suites run. */
export const PROGRAMS = [
  'envoy',
  'nginx',
  'haproxy',
  'curl',
  'wrk',
  'nghttp',
  'nghttpd',
  'nghttpx',
  'h2load',
  'h2spec',
  'h2specd',
  'grpc-go-client',
  'grpc-go-server',
  'openssl',
  'testssl',
  'go',
  'go-control-plane',
  'chromium',
] as const

export type ProgramName = (typeof PROGRAMS)[number]

/** Where `install.sh` puts what the machine's package manager does not have; ignored by git. */
export const INSTALL_FOLDER = fileURLToPath(new URL('../../.interop/bin', import.meta.url))

/** Folders of system programs that are missing from the PATH of ordinary users on some systems. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** The variable that names a program's file and wins over every search: `HEADGATE_ENVOY`, `HEADGATE_GRPC_GO_CLIENT`, … */
export function variableOf(name: ProgramName): string {
  return `HEADGATE_${name.toUpperCase().replaceAll('-', '_')}`
}

/**
 * The program's file: from its variable, else `install.sh`'s folder, else PATH. Undefined: it is not here. Throws where
 * the variable names something that cannot be run, because whoever set it meant it.
 */
export function findProgram(name: ProgramName): string | undefined {
  const named = process.env[variableOf(name)]
  if (named !== undefined && named !== '') {
    const file = resolve(named)
    if (!isExecutable(file)) throw new Error(`${variableOf(name)} names ${file}, which is not an executable file`)
    return file
  }
  const folders = [INSTALL_FOLDER, ...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS]
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable)
}

/** Why a suite that needs these programs cannot run here; undefined: it can. */
export function missing(needs: readonly ProgramName[]): string | undefined {
  const absent = needs.filter((name) => findProgram(name) === undefined)
  if (absent.length === 0) return undefined
  return `not found: ${absent.map((name) => `${name} (PATH, .interop/bin or ${variableOf(name)})`).join(', ')}`
}

/** Skipped where a program is missing; the reason names it. For options of a test. */
export function needing(...programs: ProgramName[]): { skip: string | false; timeout: number } {
  return { skip: missing(programs) ?? false, timeout: 120_000 }
}

/** The file of a program that the test's options have found. */
export function program(name: ProgramName): string {
  return findProgram(name) ?? ''
}

/** Reason for skipping what the program found here cannot do: a skip that no installation would lift. */
export function unable(why: string): string {
  return `unable: ${why}`
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}
