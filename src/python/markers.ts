/**
 * Environment markers (`python_version < "3.9" and extra == "x"`): parsed and evaluated as `packaging` does. Pure.
 * https://packaging.python.org/specifications/dependency-specifiers/#environment-markers (PEP 508)
 */
import { normalizeName } from './dist-info.js';
import { allows, parseSpecifier, parseVersion } from './version.js';

type Operand = { variable: string } | { literal: string };
export type Marker =
  { kind: 'and' | 'or'; of: readonly Marker[] } | { kind: 'compare'; left: Operand; operator: string; right: Operand };

/** Values of the variables, `extra` included. */
export type MarkerEnvironment = Readonly<Record<string, string>>;

/** Parsing and evaluating recurse; metadata is anybody's. */
const MOST_PARENTHESES = 100;
const TOKEN = /\s*(?:(\(|\))|"([^"]*)"|'([^']*)'|(===|==|~=|!=|<=|>=|<|>)|(not\s+in\b)|([A-Za-z_][A-Za-z0-9_.]*))/y;
/** Names of before PEP 508. */
const OLD_NAMES: Record<string, string> = {
  'os.name': 'os_name',
  'sys.platform': 'sys_platform',
  'platform.version': 'platform_version',
  'platform.machine': 'platform_machine',
  'platform.python_implementation': 'platform_python_implementation',
  python_implementation: 'platform_python_implementation',
};

type Token = { kind: 'paren' | 'string' | 'operator' | 'word'; text: string };

/** Null when malformed. */
export function parseMarker(text: string): Marker | null {
  const tokens = tokenize(text);
  if (!tokens || tokens.filter(({ kind }) => kind === 'paren').length > MOST_PARENTHESES) return null;
  let at = 0;
  const take = (kind: Token['kind'], wanted?: string): string | null => {
    const token = tokens[at];
    if (token?.kind !== kind || (wanted !== undefined && token.text !== wanted)) return null;
    at++;
    return token.text;
  };
  const parseMany = (kind: 'and' | 'or', part: () => Marker | null): Marker | null => {
    const of: Marker[] = [];
    do {
      const next = part();
      if (!next) return null;
      of.push(next);
    } while (take('word', kind) !== null);
    return of.length === 1 ? (of[0] ?? null) : { kind, of };
  };
  const parseOperand = (): Operand | null => {
    const literal = take('string');
    if (literal !== null) return { literal };
    const variable = take('word');
    return variable === null ? null : { variable: OLD_NAMES[variable] ?? variable };
  };
  const parseOne = (): Marker | null => {
    if (take('paren', '(') !== null) {
      const inner = parseOr();
      return inner && take('paren', ')') !== null ? inner : null;
    }
    const left = parseOperand();
    const operator = take('operator') ?? take('word', 'in');
    const right = parseOperand();
    return left && operator !== null && right ? { kind: 'compare', left, operator, right } : null;
  };
  const parseOr = (): Marker | null => parseMany('or', () => parseMany('and', parseOne));
  const marker = parseOr();
  return at === tokens.length ? marker : null;
}

function tokenize(text: string): Token[] | null {
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < end) {
    const match = TOKEN.exec(text);
    if (!match) return null;
    const [, paren, double, single, operator, notIn, word] = match;
    if (paren !== undefined) tokens.push({ kind: 'paren', text: paren });
    else if (operator !== undefined) tokens.push({ kind: 'operator', text: operator });
    else if (notIn !== undefined) tokens.push({ kind: 'operator', text: 'not in' });
    else if (word !== undefined) tokens.push({ kind: 'word', text: word });
    else tokens.push({ kind: 'string', text: double ?? single ?? '' });
  }
  return tokens;
}

/** Null when it can't be told: a variable that `environment` does not have. */
export function evaluateMarker(marker: Marker, environment: MarkerEnvironment): boolean | null {
  if (marker.kind === 'compare') return compare(marker, environment);
  const results = marker.of.map((part) => evaluateMarker(part, environment));
  const decisive = marker.kind === 'or';
  if (results.includes(decisive)) return decisive;
  return results.includes(null) ? null : !decisive;
}

function compare(
  { left, operator, right }: Extract<Marker, { kind: 'compare' }>,
  environment: MarkerEnvironment,
): boolean | null {
  let [one, other] = [valueOf(left, environment), valueOf(right, environment)];
  if (one === null || other === null) return null;
  const isExtra = [left, right].some((each) => 'variable' in each && each.variable === 'extra');
  if (isExtra) [one, other] = [normalizeName(one), normalizeName(other)];
  else {
    const specifier = parseSpecifier(`${operator} ${other}`);
    // What is no version (a kernel's release) is compared as text.
    if (specifier && (operator === '===' || parseVersion(one))) return allows([specifier], one);
  }
  return compareText(one, operator, other);
}

function valueOf(operand: Operand, environment: MarkerEnvironment): string | null {
  if ('literal' in operand) return operand.literal;
  const value = environment[operand.variable];
  if (value === undefined) return null;
  // A Python built from a checkout says `3.14.0a1+`, which is no version.
  return operand.variable === 'python_full_version' && value.endsWith('+') ? `${value}local` : value;
}

function compareText(left: string, operator: string, right: string): boolean | null {
  switch (operator) {
    case 'in':
      return right.includes(left);
    case 'not in':
      return !right.includes(left);
    case '==':
    case '===':
      return left === right;
    case '!=':
      return left !== right;
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    case '>=':
      return left >= right;
    default:
      return null;
  }
}
