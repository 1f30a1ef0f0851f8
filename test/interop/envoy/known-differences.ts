import type { Difference } from './compare.ts'

/** A row of the table in README.md: what differs on purpose, or is known to be missing. */
export interface KnownDifference {
  readonly what: string
  readonly envoy: string
  readonly headgate: string
  readonly why: string
  /** Where it shows up; each must. */
  readonly rules: readonly Rule[]
}

export interface Rule {
  /** Names of groups and probes; unset: any. */
  readonly group?: RegExp
  readonly probe?: RegExp
  /** Place of the difference; unset: any. */
  readonly where?: RegExp
  readonly when?: (difference: Difference) => boolean
  /** The whole outcome differs: the status of Envoy and that of Headgate, and nothing else is looked at. */
  readonly statuses?: readonly [envoy: string, headgate: string]
}

const REFUSED_HEAD = /^log (details|flags|method|path|route)$/

export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    what: 'absolute-form target whose authority is not the Host field',
    envoy: 'the target wins',
    headgate: '400',
    why: 'somebody is being deceived (RFC 9112 §3.2.2); a port that only one of them names counts',
    rules: [{ group: /^hosts$/, probe: /^GET \| http:\/\/exact\.example(:80)?\//, statuses: ['200', '400'] }],
  },
  {
    what: '`https://` target on a plaintext connection',
    envoy: 'accepted',
    headgate: '400',
    why: 'the scheme would be a lie to everything behind',
    rules: [{ group: /^hosts$/, probe: /^GET \| https:/, statuses: ['200', '400'] }],
  },
  {
    what: 'Host that is empty, has an empty port or a user, or stands twice',
    envoy: 'accepted',
    headgate: '400',
    why: 'ambiguity is refused, never repaired',
    rules: [
      { group: /^hosts_without_ports$/, probe: /example:$/, statuses: ['200', '400'] },
      { group: /^http10_off$/, probe: /^(empty host|two hosts|a host with a user)$/, statuses: ['200', '400'] },
    ],
  },
  {
    what: 'folded field lines, bare LF',
    envoy: 'accepted',
    headgate: '400',
    why: 'RFC 9112 §2.2 and §5.2 let a recipient refuse them; smuggling lives there',
    rules: [{ group: /^http10_off$/, probe: /^(a folded field|bare LF)$/, statuses: ['200', '400'] }],
  },
  {
    what: 'a version other than 1.0 and 1.1',
    envoy: '426',
    headgate: '505',
    why: 'RFC 9110 §15.6.6',
    rules: [{ group: /^http10_off$/, probe: /^HTTP\/(1\.2|2\.0)$/, statuses: ['426', '505'] }],
  },
  {
    what: 'request line beyond the limit',
    envoy: '431',
    headgate: '414',
    why: 'RFC 9110 §15.5.15',
    rules: [{ group: /^limits$/, probe: /path/, statuses: ['431', '414'] }],
  },
  {
    what: 'log and details of requests whose head is refused',
    envoy: 'details `http1.codec_error`; method and path are not logged',
    headgate: 'details name the rule that was broken; what was understood of the head is logged',
    why: 'an operator wants to know',
    rules: [
      { group: /^http10_off$/, where: REFUSED_HEAD },
      { group: /^underscore_reject_request$/, where: REFUSED_HEAD },
      { probe: /caf/, where: REFUSED_HEAD },
      { probe: /^GET \| \/\?bare#x|^a fragment$/, where: REFUSED_HEAD },
    ],
  },
  {
    what: 'fragment in a target',
    envoy: '400 without a body, the connection may go on',
    headgate: '400 of the parser: with a body, and the connection is closed',
    why: 'it is no part of a request target',
    rules: [
      { probe: /^GET \| \/\?bare#x|^a fragment$/, where: /^(body|header (content-length|content-type)|log sent)$/ },
    ],
  },
  {
    what: 'a chunk that is broken, in the same packet as the head',
    envoy: 'the upstream has got the head',
    headgate: 'nothing has been sent upstream',
    why: 'requests leave with the first bytes of their bodies',
    rules: [{ group: /^http10_off$/, probe: /^a bad chunk$/, where: /^origin/ }],
  },
  {
    what: 'methods that are not registered',
    envoy: '400',
    headgate: 'forwarded',
    why: 'any token is a method (RFC 9110 §9.1); routes and RBAC decide',
    rules: [{ group: /^hygiene$/, probe: /^(unknown|lower-case) method$/, statuses: ['400', '200'] }],
  },
  {
    what: 'an expectation other than 100-continue',
    envoy: 'forwarded',
    headgate: '417',
    why: 'RFC 9110 §10.1.1',
    rules: [{ group: /^hygiene$/, probe: /expect: something/, statuses: ['200', '417'] }],
  },
  {
    what: 'path that climbs above the root, or holds a `%` that escapes nothing (`normalize_path`)',
    envoy: 'clamped at the root; passed on',
    headgate: '400',
    why: 'servers behind disagree on what it means',
    rules: [
      {
        group: /^path_/,
        probe: /^GET \| (\/\.\.|\/\.\.\/a|\/%|\/%zz|\/a\/b\/\.\.\/\.\.\/\.\.\/c)$/,
        statuses: ['200', '400'],
      },
    ],
  },
  {
    what: 'log of a request refused for its escaped slashes',
    envoy: 'the path after unescaping',
    headgate: 'the path as it came',
    why: 'that is what was refused',
    rules: [{ group: /^path_reject$/, where: /^log path$/ }],
  },
  {
    what: 'several fields of one name',
    envoy: 'those it knows (accept, vary, x-forwarded-for, …) become one, joined with `,`',
    headgate: 'stay as they came',
    why: 'equivalent (RFC 9110 §5.3)',
    rules: [{ where: /header /, when: (d) => d.headgate.split(' | ').join(',') === d.envoy }],
  },
  {
    what: 'several x-request-id fields, returned to the client',
    envoy: 'joined with `,`',
    headgate: 'the first',
    why: 'an id is one',
    rules: [{ group: /^id_in_response$/, probe: /x-request-id: b$/, where: /^header x-request-id$/ }],
  },
  {
    what: '`TE: trailers`',
    envoy: 'forwarded over HTTP/1',
    headgate: 'not forwarded over HTTP/1',
    why: 'it is hop-by-hop, and trailers are dropped by default',
    rules: [{ where: /^origin header te$/ }],
  },
  {
    what: 'Referer that is no URL to Envoy',
    envoy: 'removed',
    headgate: 'forwarded',
    why: 'nothing here reads it',
    rules: [{ where: /^origin header referer$/ }],
  },
  {
    what: 'response fields that Connection lists',
    envoy: 'forwarded',
    headgate: 'removed',
    why: 'RFC 9110 §7.6.1',
    rules: [{ group: /^responses$/, probe: /raw=connection$/, where: /^header x-hop$/ }],
  },
  {
    what: 'interim responses of the upstream',
    envoy: 'dropped, but for 100 with `proxy_100_continue`',
    headgate: 'forwarded to HTTP/1.1 clients',
    why: 'RFC 9110 §15.2: a proxy must',
    rules: [{ group: /^responses$/, probe: /interim=/, where: /^interim$/ }],
  },
  {
    what: 'framing fields of answers to HEAD',
    envoy: '`transfer-encoding: chunked`',
    headgate: 'content-length where it is known, else none',
    why: 'nothing is coming that would be framed',
    rules: [{ probe: /^HEAD/, where: /^header (transfer-encoding|content-length)$/ }],
  },
  {
    what: 'direct_response of 201 and 3xx',
    envoy: 'adds a `location` of the request itself',
    headgate: 'adds nothing',
    why: 'a redirect to itself helps nobody; routes can add a header',
    rules: [
      { group: /^direct$/, probe: /not-modified/, where: /^header location$/ },
      { group: /^log_/, probe: /\/direct$/, where: /^header location$/ },
    ],
  },
  {
    what: 'reason phrase of unassigned codes',
    envoy: 'a text of its own',
    headgate: '`Unknown`',
    why: 'no client reads it',
    rules: [{ group: /^direct$/, probe: /599/, where: /^status$/ }],
  },
  {
    what: 'HTTP/1.0 clients',
    envoy: 'answered with `HTTP/1.0`',
    headgate: 'answered with `HTTP/1.1`, framed for 1.0',
    why: 'RFC 9110 §2.5: the version of the sender',
    rules: [{ group: /^http10_on$/, where: /^status$/ }],
  },
  {
    what: 'X-Forwarded-For of a peer on 127.0.0.1',
    envoy: 'the address of an interface of the machine',
    headgate: '127.0.0.1',
    why: 'the peer is the peer',
    rules: [{ group: /^remote$/, probe: /from loopback/, where: /^origin header x-forwarded-for$/ }],
  },
  {
    what: 'cluster in the log of a request refused by IP detection',
    envoy: 'depends on the request’s x-forwarded-proto',
    headgate: 'none: no route was looked for',
    why: '',
    rules: [{ group: /^custom_header_reject$/, where: /^log cluster$/ }],
  },
  {
    what: '`x-envoy-force-trace` of an internal caller',
    envoy: 'x-request-id is returned',
    headgate: 'is not',
    why: 'tracing is not built yet',
    rules: [{ group: /^remote_internal$/, where: /^header x-request-id$/ }],
  },
  {
    what: '`json_format` bodies',
    envoy: 'keys sorted, a line end behind',
    headgate: 'keys as configured, no line end',
    why: 'JSON is the same',
    rules: [{ group: /^local_reply$/, probe: /x-json/, where: /^(body|header content-length|log sent)$/ }],
  },
  {
    what: 'structures inside of text formats',
    envoy: 'keys sorted',
    headgate: 'keys as configured',
    why: 'JSON is the same',
    rules: [{ group: /^log_/, where: /METADATA\(ROUTE:ns\)|^log 69$/ }],
  },
  {
    what: '`%LOCAL_REPLY_BODY%` in access logs',
    envoy: 'empty',
    headgate: 'the body of the local reply',
    why: 'it is known',
    rules: [{ group: /^log_/, where: /LOCAL_REPLY_BODY|^log (19|20)$/ }],
  },
  {
    what: '`%TRAILER%` of trailers that are dropped',
    envoy: 'none',
    headgate: 'what the upstream sent',
    why: 'it is known',
    rules: [{ group: /^log_/, where: /TRAILER|^log 54$/ }],
  },
  {
    what: 'bytes in logs that are not UTF-8',
    envoy: 'JSON: read as latin1',
    headgate: 'U+FFFD',
    why: 'a log line is UTF-8',
    rules: [{ group: /^log_/, where: /REQ\(USER-AGENT\)/ }],
  },
  {
    what: 'a pooled connection that is reset before the response',
    envoy: '503 unless the route retries',
    headgate: 'idempotent requests are tried once more on a new connection',
    why: 'the usual end of an idle connection; RFC 9110 §9.2.2 allows it',
    rules: [{ group: /^failures$/, probe: /^GET \| \/ \| x-script: reset$/, where: /^(origin|log attempts)/ }],
  },
  {
    what: 'an upstream that resets in the middle of a body',
    envoy: 'UPE, protocol_error',
    headgate: 'UC, connection_termination',
    why: 'it was the connection that ended',
    rules: [{ group: /^failures$/, probe: /half/, where: /^log (details|flags)$/ }],
  },
  {
    what: 'a response with Content-Length and Transfer-Encoding',
    envoy: '502',
    headgate: 'the coding counts, the length is dropped, the connection is not used again',
    why: 'RFC 9112 §6.3',
    rules: [{ group: /^failures$/, probe: /both-framings/, statuses: ['502', '200'] }],
  },
  {
    what: 'spelling of Host with preserve_case upstream',
    envoy: '`host` where the client’s spelling is not kept',
    headgate: '`Host`',
    why: 'names have no case',
    rules: [{ group: /^spelled$/, probe: /kept/, where: /^origin header [hH]ost$/ }],
  },
  {
    what: 'mirrored requests',
    envoy: 'are requests of its own client: x-envoy-internal, own address in x-forwarded-for',
    headgate: 'are copies but for the host',
    why: 'a shadow should see what the primary sees',
    rules: [{ group: /^mirrored$/, where: /^origin\[1\] header (x-envoy-internal|x-forwarded-for)$/ }],
  },
  {
    what: '413 of the buffer filter',
    envoy: 'closes the connection',
    headgate: 'keeps it where the rest of the body has been read',
    why: 'nothing is left unread',
    rules: [{ group: /^buffering$/, where: /^(header connection|afterwards)$/ }],
  },
]

/** Which differences of one probe the table explains; counts what each rule was good for. */
export class Explanations {
  readonly #uses = new Map<Rule, number>()

  /** The differences that no row explains. */
  unexplained(group: string, probe: string, found: readonly Difference[]): Difference[] {
    const status = found.find((d) => d.where === 'status')
    const rules = KNOWN_DIFFERENCES.flatMap((known) => known.rules).filter(
      (rule) => (rule.group ?? /./).test(group) && (rule.probe ?? /./).test(probe),
    )
    for (const rule of rules) {
      if (rule.statuses === undefined || status === undefined) continue
      if (code(status.envoy) !== rule.statuses[0] || code(status.headgate) !== rule.statuses[1]) continue
      this.#uses.set(rule, (this.#uses.get(rule) ?? 0) + 1)
      return []
    }
    return found.filter((difference) => {
      const rule = rules.find((r) => r.statuses === undefined && explains(r, difference))
      if (rule !== undefined) this.#uses.set(rule, (this.#uses.get(rule) ?? 0) + 1)
      return rule === undefined
    })
  }

  /** Rows with a rule that explained nothing: the difference is gone, and the row should go too. */
  unused(): string[] {
    return KNOWN_DIFFERENCES.filter((known) => known.rules.some((rule) => !this.#uses.has(rule))).map((k) => k.what)
  }
}

function explains(rule: Rule, difference: Difference): boolean {
  return (rule.where ?? /./).test(difference.where) && (rule.when?.(difference) ?? true)
}

function code(status: string): string {
  return /^HTTP\S+ (\d+)/.exec(status)?.[1] ?? 'none'
}

/** The table as README.md holds it. */
export function renderDifferences(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|')
  const rows = KNOWN_DIFFERENCES.map((k) => `| ${[k.what, k.envoy, k.headgate, k.why].map(cell).join(' | ')} |`)
  return ['| what | Envoy | Headgate | why |', '| --- | --- | --- | --- |', ...rows].join('\n')
}
