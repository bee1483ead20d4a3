/**
 * RECORD: CSV of path, hash, size (the recording-installed-packages specification). Pure.
 */

export interface RecordRow {
  /** Relative to the directory that holds the `.dist-info`, or absolute. */
  path: string;
  /** Null where the specification leaves it out (RECORD itself, `.pyc`). */
  hash: { algorithm: string; /** Bytes of the digest. */ digest: Buffer } | null;
  sizeBytes: number | null;
}

export interface ParsedRecord {
  rows: RecordRow[];
  /** One line each; the rows concerned are left out. */
  problems: string[];
}

/** As Python's csv module reads it: quoted fields may hold commas, line ends, and quotes doubled. */
export function parseCsv(text: string): string[][] {
  // Nearly all of them: thousands of rows without a quote.
  if (!text.includes('"')) {
    return text
      .split(/[\r\n]+/)
      .filter((line) => line !== '')
      .map((line) => line.split(','));
  }
  const rows: string[][] = [];
  let row: string[] = [];
  let field = '';
  let quoted = false;
  const endField = (): void => {
    row.push(field);
    field = '';
  };
  const endRow = (): void => {
    if (row.length === 0 && field === '') return;
    endField();
    rows.push(row);
    row = [];
  };
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (quoted) {
      if (char !== '"') field += char;
      else if (text.charAt(i + 1) === '"') field += text.charAt(++i);
      else quoted = false;
    } else if (char === '"' && field === '') quoted = true;
    else if (char === ',') endField();
    else if (char === '\n' || char === '\r') endRow();
    else field += char;
  }
  endRow();
  return rows;
}

export function parseRecord(text: string): ParsedRecord {
  const rows: RecordRow[] = [];
  const problems: string[] = [];
  parseCsv(text).forEach((fields, index) => {
    const [path = '', hashText = '', sizeText = ''] = fields;
    const hash = parseHash(hashText);
    if (path === '' || fields.length > 3) problems.push(`row ${index + 1} is not path,hash,size`);
    else if (hash === undefined) problems.push(`row ${index + 1} (${path}) has a malformed hash`);
    else if (!/^\d*$/.test(sizeText)) problems.push(`row ${index + 1} (${path}) has a malformed size`);
    else rows.push({ path, hash, sizeBytes: sizeText === '' ? null : Number(sizeText) });
  });
  return { rows, problems };
}

/** `sha256=<urlsafe base64 without padding>`; undefined when malformed. */
function parseHash(text: string): RecordRow['hash'] | undefined {
  if (text === '') return null;
  const match = /^([a-z0-9_]+)=([A-Za-z0-9_-]+)=*$/.exec(text);
  if (!match) return undefined;
  return { algorithm: match[1] ?? '', digest: Buffer.from(match[2] ?? '', 'base64url') };
}
