/** Node documents neither of these; both have been on every Buffer since 0.x and skip the encoding look-up. */
declare global {
  interface Buffer {
    latin1Slice(start?: number, end?: number): string
  }
}

export {}
