/**
 * The asking end of the control socket: used by the CLI. It never looks at the mountpoint, only at the store.
 */
import { createConnection, type Socket } from 'node:net';
import { openSync, closeSync, constants } from 'node:fs';
import { describe, SiteswapError, systemCode } from '../util/errors.js';
import { MAX_MESSAGE_BYTES, REQUEST_TIMEOUT_MS } from '../util/limits.js';
import { parseMessage, parseResult, type Method, type Params, type Progress, type Result } from './control-protocol.js';
import { LineReader } from './line-reader.js';

interface Pending {
  method: Method;
  onEvent: ((event: Progress) => void) | undefined;
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Methods that answer when something else has happened; the others answer at once or the server is ill. While one of these
 * is waited for, the server is asked now and then whether it is there at all: it may be stopped, or stuck.
 */
const PATIENT: ReadonlySet<Method> = new Set<Method>(['commit', 'verify', 'wait', 'unmount', 'abort']);

export class ControlClient {
  #nextId = 1;
  readonly #pending = new Map<number, Pending>();

  /** Since it was last asked whether it is there. */
  #heard = true;

  private constructor(
    private readonly socket: Socket,
    private readonly patienceMs: number,
  ) {
    const reader = new LineReader(MAX_MESSAGE_BYTES, (line) => this.#onLine(line));
    socket.on('data', (chunk) => {
      try {
        reader.push(chunk);
      } catch (error) {
        socket.destroy(new SiteswapError('SERVER_SILENT', `the server's answer is not understood: ${describe(error)}`));
      }
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('it closed the connection')));
  }

  /** `storePath`: the store's directory, whose `control.sock` the server listens on. */
  static async connect(storePath: string, patienceMs = REQUEST_TIMEOUT_MS): Promise<ControlClient> {
    let directory: number;
    try {
      directory = openSync(storePath, constants.O_RDONLY | constants.O_DIRECTORY);
    } catch (error) {
      throw connectError(storePath, error);
    }
    // sun_path holds 108 bytes; through the descriptor the path is short however deep the store is.
    const socket = createConnection(`/proc/self/fd/${directory}/control.sock`);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      });
    } catch (error) {
      throw connectError(storePath, error);
    } finally {
      closeSync(directory);
    }
    socket.removeAllListeners('error');
    return new ControlClient(socket, patienceMs);
  }

  request<M extends Method>(method: M, params: Params<M>, onEvent?: (event: Progress) => void): Promise<Result<M>> {
    const id = this.#nextId++;
    return new Promise<Result<M>>((resolve, reject) => {
      const silent = (): void => this.#fail(new Error(`no answer to '${method}' for ${this.patienceMs / 1000} s`));
      const timer = PATIENT.has(method)
        ? setInterval(() => this.#probe(silent), this.patienceMs)
        : setTimeout(silent, this.patienceMs);
      this.#pending.set(id, { method, onEvent, resolve: resolve as (result: unknown) => void, reject, timer });
      this.socket.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }

  close(): void {
    this.socket.destroy();
  }

  /** Any line is an answer; that to `status` itself is nobody's. */
  #probe(silent: () => void): void {
    if (!this.#heard) {
      silent();
      return;
    }
    this.#heard = false;
    this.socket.write(`${JSON.stringify({ id: this.#nextId++, method: 'status', params: {} })}\n`);
  }

  #onLine(line: string): void {
    this.#heard = true;
    const message = parseMessage(JSON.parse(line));
    // A request that the server could not even number is answered with id 0: there is only one it can be about.
    const id = message.id === 0 ? Math.min(...this.#pending.keys()) : message.id;
    const pending = this.#pending.get(id);
    if (!pending) return;
    if ('event' in message) {
      pending.onEvent?.(message.event);
      return;
    }
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (!message.ok) {
      pending.reject(SiteswapError.fromData(message.error));
      return;
    }
    try {
      pending.resolve(parseResult(pending.method, message.result));
    } catch (error) {
      pending.reject(new SiteswapError('SERVER_SILENT', `the server's answer is not understood: ${describe(error)}`));
    }
  }

  #fail(error: Error): void {
    const told =
      error instanceof SiteswapError
        ? error
        : new SiteswapError(
            'SERVER_SILENT',
            `the server does not answer: ${error.message}`,
            'See server.log in the store.',
          );
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(told);
    }
    this.#pending.clear();
    this.socket.destroy();
  }
}

function connectError(storePath: string, error: unknown): SiteswapError {
  const code = systemCode(error);
  if (code === 'EACCES' || code === 'EPERM') {
    return new SiteswapError(
      'ACCESS_DENIED',
      `no access to the store ${storePath}`,
      'Run as root or as the user who mounted.',
      {
        cause: error,
      },
    );
  }
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new SiteswapError(
      'NOT_MOUNTED',
      `no server uses the store ${storePath}`,
      'Start one with `siteswap mount DIR`.',
      {
        cause: error,
      },
    );
  }
  return new SiteswapError(
    'SERVER_SILENT',
    `the server of ${storePath} does not answer: ${describe(error)}`,
    'See server.log in the store; `siteswap unmount --force DIR` ends the mount.',
    { cause: error },
  );
}
