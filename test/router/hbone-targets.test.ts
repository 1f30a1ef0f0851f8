import t from 'tap'
import { HboneTargets, parseBaggage, parseTarget } from '../../lib/router/hbone-targets.ts'

/** Which authorities are targets, in which one spelling they are compared, and what they fit. */

t.test('an authority has one spelling, however it is written', (t) => {
  const spelled = (authority: string): string => {
    const target = parseTarget(authority)
    return target === undefined ? '' : `${target.ip ? 'ip' : 'name'} ${target.host} ${target.port}`
  }
  for (const [authority, expected] of [
    ['10.0.0.9:80', 'ip 10.0.0.9 80'],
    ['[fd00::1]:80', 'ip fd00::1 80'],
    ['[FD00:0:0:0::0001]:080', 'ip fd00::1 80'],
    ['[::ffff:10.66.3.4]:80', 'ip 10.66.3.4 80'],
    ['[::FFFF:a42:304]:80', 'ip 10.66.3.4 80'],
    ['[0:0:0:0:0:ffff:10.66.3.4]:80', 'ip 10.66.3.4 80'],
    ['[0000:0:0:0:0:ffff:0a42:0304]:80', 'ip 10.66.3.4 80'],
    ['App.Demo:9', 'name app.demo 9'],
    ['app.demo.:9', 'name app.demo 9'],
    ['a:65535', 'name a 65535'],
  ]) {
    t.equal(spelled(authority), expected, authority)
  }
  t.end()
})

t.test('what is no target: no port, userinfo, other characters, and numbers that resolvers take for addresses', (t) => {
  for (const authority of [
    '',
    'app.demo',
    ':80',
    '.:80',
    'app.demo..:80',
    'app..demo:80',
    'app.demo:0',
    'app.demo:65536',
    'app.demo:-1',
    'app.demo:1e3',
    'user@app.demo:80',
    '[user@::1]:80',
    '[fe80::1%25eth0]:80',
    '[app.demo]:80',
    '[10.0.0.1]:80',
    'fd00::1:80',
    'app demo:80',
    'app.demo:80/',
    'app%2edemo:80',
    'app\u0000.demo:80',
    '\u00e4pp.demo:80',
    '10.0.0.999:80',
    '10.66.772:80',
    '0x0a.66.3.4:80',
    '012.66.3.4:80',
    '171049732:80',
    '0x7f000001:80',
    '127.1.:80',
    `${'a'.repeat(254)}:80`,
  ]) {
    t.equal(parseTarget(authority), undefined, authority)
  }
  t.end()
})

t.test('names and addresses of the configuration are compared in the same spelling', (t) => {
  const fits = (hosts: readonly string[], authority: string): boolean => {
    const targets = new HboneTargets([
      { hosts, ranges: [], ports: [] },
      { hosts: [], ranges: [], ports: [], cluster: 'rest' },
    ])
    const target = parseTarget(authority)
    return target !== undefined && targets.find(target) === 'forbidden'
  }
  t.ok(fits(['FD00:0::1'], '[fd00::1]:80'))
  t.ok(fits(['[fd00::1]'], '[fd00::1]:80'))
  t.ok(fits(['::ffff:10.0.0.1'], '10.0.0.1:80'))
  t.ok(fits(['10.0.0.1'], '[0:0:0:0:0:ffff:a00:1]:80'))
  t.ok(fits(['App.Demo.'], 'app.demo:80'))
  t.ok(fits(['app.demo'], 'APP.demo.:80'))
  t.ok(fits(['*.Demo.'], 'app.demo:80'))
  t.notOk(fits(['*.demo'], 'demo:80'))
  t.notOk(fits(['*.demo'], 'app.demo.evil:80'))
  t.end()
})

t.test('baggage: values are decoded, properties and what is malformed left out', (t) => {
  t.same(
    parseBaggage('a=1, b = x%20y ;p=q,c,=d,e=%zz,__proto__=f'),
    JSON.parse('{"a":"1","b":"x y","e":"%zz","__proto__":"f"}'),
  )
  t.same(Object.keys(parseBaggage(Array.from({ length: 100 }, (_, i) => `k${i}=v`).join(','))).length, 64)
  t.end()
})
