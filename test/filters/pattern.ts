/** Bytes that tell their place. */
export function patternBytes(size: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(size)
  for (let i = 0; i < size; i++) bytes[i] = (i * 31 + (i >> 8)) & 255
  return bytes
}
