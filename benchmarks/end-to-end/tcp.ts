import type { Bar, Table } from '../report.ts'
import { type Suite, speaking } from './suite.ts'
import { throughputTable } from './throughput.ts'
import { ratioBars, WORKLOADS, type Workload } from './workload.ts'

const METHOD = `Layer 4: the proxy passes bytes and parses nothing, with TLS it ends TLS (ECDSA P-256, TLS 1.3) and passes what it
decrypts. The bytes are those of \`bodies\`: HTTP/1 with bodies of 1 MiB on 16 connections that stay, which client and origin
alone understand. How much a CPU-second of the proxy moves (higher is better); load generator and origin share a core and
limit MiB/s, so only the first figure compares proxies. haproxy is in \`mode tcp\` and does not splice unless told.`

/** Bytes per CPU-second of a TCP proxy, plain and behind TLS, both directions. */
export const tcp: Suite = async (context) => {
  const tables: Table[] = []
  const bars: Bar[] = []
  const add = async (title: string, workload: Workload): Promise<void> => {
    const table = await throughputTable(title, workload, context)
    tables.push(table)
    bars.push(...ratioBars(table, 'efficiency', [{ what: '', limit: 0.7, atLeast: true }]))
  }
  await add('Down, TCP', WORKLOADS['tcp-download'])
  await add('Up, TCP', WORKLOADS['tcp-upload'])
  await add('Down, TLS ended', WORKLOADS['tcp-tls-download'])
  await add('Up, TLS ended', WORKLOADS['tcp-tls-upload'])
  const { skipped } = speaking(WORKLOADS['tcp-download'].traffic, context)
  return { suite: 'tcp', method: METHOD, tables, bars, skipped }
}
