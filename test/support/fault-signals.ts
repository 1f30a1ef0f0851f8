/**
 * For `NODE_OPTIONS=--import=…`: worker processes of a gateway that break on request. SIGWINCH hangs the event loop for
 * ever, SIGURG takes memory until there is none. Both mean nothing to a process without this.
 */
if (process.argv[1]?.includes('worker-process')) {
  process.on('SIGWINCH', () => {
    for (;;);
  })
  process.on('SIGURG', () => {
    const kept: object[] = []
    for (;;) kept.push(new Array(1_000_000).fill(0.5))
  })
}
