import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evaluateMarker, parseMarker } from '../../src/python/markers.js';
import { parseRequirement, requiresOfEggInfo } from '../../src/python/requirement.js';

const ENVIRONMENT = {
  python_version: '3.11',
  python_full_version: '3.11.7',
  os_name: 'posix',
  sys_platform: 'linux',
  platform_machine: 'x86_64',
  platform_release: '6.1.0-18-amd64',
  platform_python_implementation: 'CPython',
  implementation_name: 'cpython',
  extra: '',
};

function evaluate(text: string, more: Record<string, string> = {}): boolean | null {
  const marker = parseMarker(text);
  assert.ok(marker, text);
  return evaluateMarker(marker, { ...ENVIRONMENT, ...more });
}

test('markers are evaluated', () => {
  const cases: [string, boolean | null][] = [
    ['python_version < "3.9"', false],
    ["python_version >= '3.8'", true],
    ['"3.10" <= python_version', true],
    ['python_version == "3.*"', true],
    ['python_version in "3.10 3.11"', true],
    ["sys_platform not in 'win32 darwin'", true],
    ['sys_platform == "win32" or os_name == "posix" and python_version > "3"', true],
    ['(sys_platform == "win32" or os_name == "posix") and python_version > "4"', false],
    ['os.name == "posix"', true],
    ["python_implementation=='CPython'", true],
    ['platform_release >= "5"', true],
    ['extra == "socks"', false],
    ['unknown_thing == "x"', null],
    ['unknown_thing == "x" or os_name == "posix"', true],
    ['unknown_thing == "x" and os_name == "nt"', false],
  ];
  for (const [text, expected] of cases) assert.equal(evaluate(text), expected, text);
  assert.equal(evaluate('extra == "Foo_Bar"', { extra: 'foo-bar' }), true);
  assert.equal(evaluate('python_full_version >= "3.14.0a1"', { python_full_version: '3.14.0a2+' }), true);
});

test('malformed markers are none', () => {
  for (const text of ['', 'python_version', 'a ==', '(a == "b"', 'a == "b" c', 'a == "b" and', 'a % "b"', '"a" "b"']) {
    assert.equal(parseMarker(text), null, text);
  }
});

test('requirements', () => {
  const show = (text: string) => {
    const it = parseRequirement(text);
    return it && [it.name, it.extras.join(), it.specifiers.map(({ operator, text }) => operator + text).join()];
  };
  assert.deepEqual(show('Foo_Bar'), ['foo-bar', '', '']);
  assert.deepEqual(show('a[X_y, z] >=1,<2 ; python_version < "3"'), ['a', 'x-y,z', '>=1,<2']);
  assert.deepEqual(show('urllib3 (<3,>=1.21.1)'), ['urllib3', '', '<3,>=1.21.1']);
  assert.deepEqual(show('a @ https://example.invalid/a-1.zip#x=1;y ; extra == "b"'), ['a', '', '']);
  assert.deepEqual(show('zope.interface~=5.0'), ['zope-interface', '', '~=5.0']);
  assert.ok(parseRequirement('a;extra=="b"')?.marker);
  for (const text of ['', '-a', 'a b', 'a >dev', 'a ; nonsense', 'a[b'])
    assert.equal(parseRequirement(text), null, text);
});

test('hostile metadata is malformed, at once', () => {
  assert.equal(parseRequirement(`a${' '.repeat(200_000)}@`), null);
  assert.equal(parseRequirement(`a ; ${'('.repeat(200_000)}`), null);
  assert.equal(parseRequirement(`a ; ${'('.repeat(20_000)}os_name == "x"${')'.repeat(20_000)}`), null);
  assert.equal(parseRequirement(`${'a.'.repeat(100_000)};`), null);
});

test('requires.txt', () => {
  const text = 'six>=1.5\n\n[:python_version < "3"]\nfutures\n\n[security]\na\n[x:os_name == "nt"]\nb>1\n';
  const requires = requiresOfEggInfo(text);
  assert.deepEqual(requires, [
    'six>=1.5',
    'futures ; (python_version < "3")',
    'a ; extra == "security"',
    'b>1 ; (os_name == "nt") and extra == "x"',
  ]);
  for (const line of requires) assert.ok(parseRequirement(line), line);
});
